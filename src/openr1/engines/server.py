"""`vllm serve` processes that a stage starts, watches and ends: one for each replica, all on this machine.

Each runs below a watcher (`watcher.py`) that ends all of its processes when the server, or the stage, ends in whatever
way. One that dies is started again, a few times; then it counts as gone for good. Servers listen on 127.0.0.1 only,
answer only to a key that is drawn anew for each run, and write to a log of their own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from openr1.engines.settings import VLLMSettings
from openr1.engines.vllm_program import (
    SILENT,
    as_flags,
    cpu_environment,
    engine_arguments,
    find_executable,
    split_gpus,
    visible_gpus,
)
from openr1.errors import OutsideError, UserError

logger = logging.getLogger("openr1")
WATCHER = Path(__file__).with_name("watcher.py")
RESTARTS, FORGIVEN_S = 3, 600.0  # restarts in a row; one that has run for so long begins a new row
GRACE_S = 5.0  # between asking a server to end and killing it
POLL_S = 0.25


# ------------------------------------------------------------------------------------------------ one server
class Server:
    """One `vllm serve` below its watcher, on a port that is kept for it while this object lives.

    Args:
        command: without host and port, which are added.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        # Bound and not listening: the kernel hands the port to nobody else, and one who sets SO_REUSEADDR, as vLLM
        # does, may listen on it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        self.environment = dict(environment)
        self._watcher: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self._log_start = 0
        self._scratch = ""

    def start(self) -> None:
        """Start it, in the background."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.mkdtemp(prefix="openr1-vllm-")
        words = [sys.executable, "-I", "-S", str(WATCHER), str(GRACE_S), self._scratch, *self.command]
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(self.command)}\n".encode())
            log.flush()
            self._log_start = log.tell()
            self._watcher = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, "VLLM_RPC_BASE_PATH": self._scratch},
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether it, or its watcher, has ended; then nothing of it is left."""
        if self._watcher is None:
            return True
        if self._watcher.poll() is None:
            return False
        with suppress(ProcessLookupError, PermissionError):  # a watcher that was killed could not clean up
            os.killpg(self._watcher.pid, signal.SIGKILL)
        shutil.rmtree(self._scratch, ignore_errors=True)
        return True

    def stop(self) -> None:
        """End it and all of its processes; returns when they are gone."""
        if self._watcher is None:
            return
        assert self._watcher.stdin is not None
        with suppress(OSError):
            self._watcher.stdin.close()
        try:
            self._watcher.wait(timeout=6 * GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._watcher.pid, signal.SIGKILL)
            self._watcher.wait()
        assert self.ended
        self._watcher = None

    def close(self) -> None:
        """`stop`, and give the port back."""
        self.stop()
        self._reserved.close()

    def listens(self) -> bool:
        """Whether it takes connections; vLLM does once its engine is ready."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def last_words(self) -> str:
        """The reason that its log gives, of this start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return reason_in(log.read().decode("utf-8", "replace"))


def reason_in(log: str) -> str:
    """The line of a vLLM log that says why it ended: the last error that does not merely point at another one.

    >>> reason_in("(EngineCore pid=7) ERROR [core.py:1] ValueError: too long\\n"
    ...     "RuntimeError: Engine core initialization failed. See root cause above.\\n")
    'ValueError: too long'
    """
    errors = re.findall(r"\b((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b: .+|vllm serve: error: .+)", log)
    telling = [e for e in errors if not re.search(r"See root cause|EngineDeadError|Engine core init", e)]
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return (telling or errors or lines or ["it said nothing"])[-1].strip()[:300]


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
        server.start()
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


def vllm_servers(
    settings: VLLMSettings,
    model_dir: Path,
    logs: Path,
    probe: list[int],
    context: int | None,
    gpus: Sequence[str] | None = None,
) -> Servers:
    """The servers that `settings` ask for, not yet started; on `gpus`, by default all that are visible.

    Raises:
        UserError: no vllm program, or fewer GPUs than asked for.
    """
    executable = find_executable(settings.executable)
    gpus = visible_gpus() if gpus is None else gpus
    shares = split_gpus(gpus, settings)
    key, model = secrets.token_urlsafe(24), "openr1"
    flags = as_flags(engine_arguments(settings, bool(gpus), context))
    command = [executable, "serve", str(model_dir.resolve()), "--served-model-name", model, *flags]
    command += ["--disable-uvicorn-access-log"]
    servers = []
    for i, share in enumerate(shares):
        own = {"CUDA_VISIBLE_DEVICES": ",".join(share)} if gpus else cpu_environment(len(shares))
        name = "the vLLM server" if len(shares) == 1 else f"vLLM server {i}"
        servers.append(Server(name, command, {**SILENT, **own, "VLLM_API_KEY": key}, logs / f"vllm-{i}.log"))
    return Servers(servers, model, key, probe, settings.start_timeout_s)
