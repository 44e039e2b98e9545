"""`vllm serve` processes that a stage starts, watches and ends: one for each replica, on the nodes that it has.

Each runs below a watcher (`watcher.py`) that ends all of its processes when the server, or the stage, ends in whatever
way. One that dies is started again, a few times; then it counts as gone for good. Servers listen on 127.0.0.1, in a
Slurm job on its interface, answer only to a key that is drawn anew for each run, and write to a log of their own.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from openr1.engines.settings import VLLMSettings
from openr1.engines.vllm_log import reason_in
from openr1.engines.vllm_program import (
    SILENT,
    Place,
    as_flags,
    cpu_environment,
    engine_arguments,
    find_executable,
    place_replicas,
)
from openr1.errors import OutsideError, UserError
from openr1.nodes.base import Command, Node, Process
from openr1.nodes.current import current_nodes
from openr1.nodes.local import LocalNode

logger = logging.getLogger("openr1")
WATCHER = Path(__file__).with_name("watcher.py")
RESTARTS, FORGIVEN_S = 3, 600.0  # restarts in a row; one that has run for so long begins a new row
SCRATCH = "VLLM_RPC_BASE_PATH"  # where vLLM puts its sockets
GRACE_S = 5.0  # between asking a server to end and killing it
POLL_S = 0.25


# ------------------------------------------------------------------------------------------------ one server
class Server:
    """One `vllm serve` below its watcher, on a port that is kept for it while this object lives.

    Args:
        command: without host and port, which are added.
        node: where it runs; by default this machine.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        node: Node | None = None,
    ) -> None:
        self.name, self.log, self.node = name, log, node or LocalNode()
        self._reserved = self.node.port(name)
        self.port: int = self._reserved.number
        self.url = f"http://{self.node.address}:{self.port}/v1"
        self.command = [*command, "--host", self.node.address, "--port", str(self.port)]
        self.environment = dict(environment)
        self._watcher: Process | None = None
        self.started_at = 0.0
        self._log_start = 0

    def start(self) -> None:
        """Start it, in the background."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(self.command)}\n".encode())
            log.flush()
            self._log_start = log.tell()
        watched = [sys.executable, "-I", "-S", str(WATCHER), str(GRACE_S), SCRATCH, *self.command]
        self._watcher = self.node.start(Command(watched, self.environment, self.log, session=True, scratch=SCRATCH))
        self.started_at = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether it, or its watcher, has ended; then nothing of it is left."""
        return self._watcher is None or self._watcher.poll() is not None

    def stop(self) -> None:
        """End it and all of its processes; returns when they are gone."""
        if self._watcher is None:
            return
        self._watcher.close_input()
        try:
            self._watcher.wait(timeout=6 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._watcher.kill()
            self._watcher.wait()
        self._watcher = None

    def close(self) -> None:
        """`stop`, and give the port back."""
        self.stop()
        self._reserved.close()

    def listens(self) -> bool:
        """Whether it takes connections; vLLM does once its engine is ready."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.node.address, self.port)) == 0

    def last_words(self) -> str:
        """Why it ended, of this start: the error in its log, else how it ended and the last line there."""
        if self._watcher is not None and self._watcher.lost:
            return f"{self.node.name} is gone"
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode("utf-8", "replace")
        return reason_in(text, self._watcher.poll() if self._watcher is not None else None)


# ------------------------------------------------------------------------------------------------ all of them
class Servers:
    """The replicas of one model. `start` returns when all answer; then `watch` keeps them alive.

    Args:
        model: the name that they serve.
        probe: token ids of a short prompt, for the completion that shows that a server works.
    """

    def __init__(self, servers: Sequence[Server], model: str, key: str, probe: list[int], timeout_s: float) -> None:
        self.servers = {s.url: s for s in servers}
        self.model, self.key, self.probe, self.timeout_s = model, key, probe, timeout_s
        self.restarts: dict[str, int] = dict.fromkeys(self.servers, 0)
        self.deaths = 0  # over all replicas
        self._up: dict[str, bool] = dict.fromkeys(self.servers, False)
        self._lock = threading.Lock()
        self._closed = False
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def start(self) -> None:
        """Start all and wait until each has answered a completion.

        Raises:
            UserError: one ended; the line says why. OutsideError: one does not answer in time.
        """
        began = time.monotonic()
        try:
            for server in self.servers.values():
                server.start()
                logger.info("%s: vllm serve starts, its log is %s", server.name, server.log)
            for server in self.servers.values():
                self._wait(server, began + self.timeout_s)
                self._up[server.url] = True
        except BaseException:
            self.close()
            raise
        logger.info("%d vLLM servers answer after %.0f s", len(self.servers), time.monotonic() - began)

    def _wait(self, server: Server, limit: float) -> None:
        why = "it does not listen"
        while True:
            if server.ended:
                raise UserError(f"{server.name} ended before it answered: {server.last_words()} (log: {server.log})")
            if server.listens() and (why := self._try(server)) == "":
                return
            if time.monotonic() > limit:
                raise OutsideError(
                    f"{server.name} does not answer within {self.timeout_s:g} s ({why}; {server.last_words()}); raise "
                    f"engine.start_timeout_s, or see {server.log}"
                )
            time.sleep(POLL_S)

    def _try(self, server: Server) -> str:
        """Why a completion of one token does not come back; "" where it does."""
        body = {"model": self.model, "prompt": self.probe, "max_tokens": 1, "seed": 0}
        request = urllib.request.Request(
            f"{server.url}/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        try:
            with self._opener.open(request, timeout=60) as reply:
                return "" if json.load(reply)["choices"] else "an empty reply"
        except urllib.error.HTTPError as e:
            return f"HTTP {e.code}: {e.read(200).decode('utf-8', 'replace')}"
        except (OSError, ValueError, KeyError) as e:
            return str(e) or type(e).__name__

    def version(self) -> str | None:
        """The version that a server says it is."""
        with suppress(OSError, ValueError, KeyError):
            server = next(iter(self.servers.values()))
            with self._opener.open(server.url.removesuffix("/v1") + "/version", timeout=10) as reply:
                return str(json.load(reply)["version"])
        return None

    def watch(self, url: str) -> str | None:
        """Why the server at `url` is gone for good, or None. One that has ended is started again, `RESTARTS` times."""
        server = self.servers[url]
        with self._lock:
            if self._closed:
                return "it was ended"
            now = time.monotonic()
            if not server.ended:
                if self._up[url]:
                    if now - server.started_at > FORGIVEN_S:
                        self.restarts[url] = 0
                elif server.listens():
                    self._up[url] = True
                elif now - server.started_at > self.timeout_s:
                    server.stop()
                return None
            return self._again(server)

    def _again(self, server: Server) -> str | None:
        """Start a server that has ended; the reason where that has been tried often enough."""
        why = server.last_words()
        self.deaths += 1
        if self.restarts[server.url] >= RESTARTS:
            server.stop()
            return f"it ended {RESTARTS + 1} times: {why}; log: {server.log}"
        self.restarts[server.url] += 1
        count = f"restart {self.restarts[server.url]} of {RESTARTS}"
        logger.warning("%s ended (%s); %s, its log is %s", server.name, why, count, server.log)
        self._up[server.url] = False
        try:
            server.start()
        except OutsideError as e:  # its node is gone
            return str(e)
        return None

    def close(self) -> None:
        """End all of them, side by side."""
        with self._lock:
            self._closed = True
        threads = [threading.Thread(target=s.close) for s in self.servers.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def rollout_server(
    settings: VLLMSettings, model_dir: Path, logs: Path, probe: list[int], context: int | None, place: Place
) -> Servers:
    """The one server that TRL draws from and sends weights to, not yet started; its replicas share one port.

    Raises:
        UserError: no vllm program.
    """
    arguments = engine_arguments(settings, bool(place.gpus), context)
    if settings.data_parallel > 1:
        arguments["data_parallel_size"] = settings.data_parallel
    key, model = secrets.token_urlsafe(24), "openr1"
    command = [find_executable(settings.executable), "serve", str(model_dir.resolve())]
    command += ["--served-model-name", model, *as_flags(arguments), "--disable-uvicorn-access-log"]
    own = {"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)} if place.gpus else cpu_environment()
    name = f"the vLLM server on {place.node.name}" if place.node.job is not None else "the vLLM server"
    # weights and caches are reached by endpoints that only this mode has
    environment = {**SILENT, **own, "VLLM_SERVER_DEV_MODE": "1", "VLLM_API_KEY": key}
    server = Server(name, command, environment, logs / "vllm.log", place.node)
    return Servers([server], model, key, probe, settings.start_timeout_s)


def vllm_servers(
    settings: VLLMSettings, model_dir: Path, logs: Path, probe: list[int], context: int | None
) -> Servers:
    """The servers that `settings` ask for, not yet started.

    Raises:
        UserError: no vllm program, or fewer GPUs than asked for.
    """
    executable = find_executable(settings.executable)
    places = place_replicas(current_nodes(), settings)
    key, model = secrets.token_urlsafe(24), "openr1"
    flags = as_flags(engine_arguments(settings, bool(places[0].gpus), context))
    command = [executable, "serve", str(model_dir.resolve()), "--served-model-name", model, *flags]
    command += ["--disable-uvicorn-access-log"]
    servers = []
    for i, place in enumerate(places):
        beside = sum(p.node is place.node for p in places)
        own = {"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)} if place.gpus else cpu_environment(beside)
        name = "the vLLM server" if len(places) == 1 else f"vLLM server {i}"
        name += f" on {place.node.name}" if place.node.job is not None else ""
        environment = {**SILENT, **own, "VLLM_API_KEY": key}
        servers.append(Server(name, command, environment, logs / f"vllm-{i}.log", place.node))
    return Servers(servers, model, key, probe, settings.start_timeout_s)
