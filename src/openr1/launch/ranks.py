"""Starts the processes that train one stage together, and waits for them: the side of the process that owns the stage.

The ranks are ordinary processes with torchrun's environment, on this machine or on all nodes of a job; they meet at a
store that the owner keeps: on the loopback interface and a port that the kernel chose, in a job on the job's interface
and a port of the job's. They die with the owner, and all end when one does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from openr1 import log
from openr1.config.recipe import Recipe, save_run_yaml
from openr1.errors import OpenR1Error, OutsideError, Terminated, UserError
from openr1.launch import hardware
from openr1.launch.child import forwarding
from openr1.launch.serving import serving, share_out
from openr1.log import logger
from openr1.nodes.base import Command, Node, Process
from openr1.nodes.current import current_nodes
from openr1.nodes.local import LocalNode
from openr1.nodes.network import bind, ports_of
from openr1.stages.base import Output, StageContext, StageResult
from openr1.stages.model_input import model_folder
from openr1.train.available import unavailable

SETTLE = 3.0  # seconds in which the death of one rank may show itself in the others before its cause is named
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def run_ranks(recipe: Recipe, folder: Path, context: StageContext, logs: Path) -> StageResult:
    """Train the stage of `context` on all its processes, here; the StageResult is rank 0's.

    Raises UserError for what this machine cannot do or what the ranks found, OutsideError for a rank that died.
    """
    settings = context.settings
    nodes, place = share_out(current_nodes(), settings)
    _check_machine(context.name, settings, nodes)
    model = model_folder(context)
    command = [sys.executable, "-m", "openr1.launch.rank", str(folder), context.name, "--settings", str(logs)]
    command += ["--model", str(model), "--logs", str(logs)]
    save_run_yaml(recipe, logs)
    with (
        serving(context, model, logs, nodes[0], place) as server,
        _store(nodes[0]) as port,
        _extensions(settings.parallel.kind) as extra,
    ):
        ranks = Ranks(context, logs)
        ranks.lacking = server.gone
        try:
            for spot in places(nodes, settings.world_size):
                own = {} if settings.parallel.kind == "single" else rank_environment(spot, nodes[0].address, port)
                ranks.start(command, own | extra | server.environment, spot.node)
            with forwarding(ranks.send):
                result = ranks.wait()
        finally:
            ranks.kill()
    if len(nodes) > 1:
        result.results["parallel"]["nodes"] = [node.name for node in nodes]
    return result


def _check_machine(name: str, settings: Any, nodes: Sequence[Node]) -> None:
    """What is not here, told once and before a process starts."""
    there = hardware.gpu_count()
    problems = unavailable(settings.train, settings.parallel, there > 0)
    if problems:
        raise UserError(*(f"{name}: {p}" for p in problems))
    wanted = -(-settings.world_size // len(nodes))
    if 0 < there < wanted:
        raise UserError(f"{name}: {wanted} processes want a GPU each, {there} are here; set parallel.processes")


@dataclass(frozen=True)
class RankPlace:
    """Which rank runs where: `local` of `beside` on the `group`th node."""

    rank: int
    size: int
    node: Node
    group: int
    local: int
    beside: int


def places(nodes: Sequence[Node], size: int) -> list[RankPlace]:
    """Ranks in the order of nodes, as evenly as they go."""
    found = []
    for group, node in enumerate(nodes):
        mine = range(size * group // len(nodes), size * (group + 1) // len(nodes))
        found += [RankPlace(rank, size, node, group, local, len(mine)) for local, rank in enumerate(mine)]
    return found


def rank_environment(place: RankPlace, address: str, port: int) -> dict[str, str]:
    """What torchrun would tell a rank; the threads of the owner are shared out."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or hardware.cores())
    interface = os.environ.get("GLOO_SOCKET_IFNAME")
    return {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local),
        "GROUP_RANK": str(place.group),
        "WORLD_SIZE": str(place.size),
        "LOCAL_WORLD_SIZE": str(place.beside),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the owner keeps the store
        "GLOO_SOCKET_IFNAME": place.node.interface or interface or LOOPBACK,
        "OMP_NUM_THREADS": str(max(1, threads // place.beside)),
    }


@contextmanager
def _store(node: Node) -> Iterator[int]:
    """The store at which ranks meet; yields its port, which nobody else can have taken."""
    from torch.distributed import TCPStore

    ports = ports_of(node.job, "ranks") if node.job is not None else None
    listening = bind(node.address, ports)
    port = listening.getsockname()[1]
    store = TCPStore(node.address, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
    yield port
    del store


@contextmanager
def _extensions(kind: str) -> Iterator[dict[str, str]]:
    """Where DeepSpeed compiles its operators, for as long as the block uses them; the environment that says so.

    A compilation that was killed leaves a lock file, at which the next one would wait for ever. Every user of the
    folder holds a shared lock on it that ends with the process: who is alone there may remove what others left.
    """
    if kind not in ("zero2", "zero3"):
        yield {}
        return
    import fcntl

    from openr1.paths import cache_dir

    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cache_dir() / "torch_extensions")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "in_use", "a") as used:
        with suppress(BlockingIOError):
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for lock in folder.glob("**/lock"):
                lock.unlink()
        fcntl.flock(used, fcntl.LOCK_SH)
        accelerator = {} if hardware.gpu_count() else {"DS_ACCELERATOR": "cpu"}
        yield {"TORCH_EXTENSIONS_DIR": str(folder)} | accelerator


class Ranks:
    """Processes that each speak the protocol of openr1.launch.rank; one process may speak for several ranks."""

    def __init__(self, context: StageContext, logs: Path) -> None:
        self.context, self.logs = context, logs
        self.processes: list[Process] = []
        self.events: Queue[dict[str, Any]] = Queue()
        self.done: dict[int, dict[str, Any]] = {}
        self.running = 0
        self.begun = False
        self.lacking: Callable[[], str | None] = lambda: None  # why they cannot go on, whatever they say themselves

    def start(self, command: Sequence[str], environment: dict[str, str], node: Node | None = None) -> None:
        """Start one more process; call it from the main thread, with whose end the ranks of this machine end."""
        node = node or LocalNode()
        process = node.start(Command(command, environment))
        self.processes.append(process)
        self.running += 1
        rank = int(environment.get("RANK", len(self.processes) - 1))
        threading.Thread(target=self._listen, args=(process, rank, node), daemon=True).start()

    def _listen(self, process: Process, rank: int, node: Node) -> None:
        for line in process.lines():
            self.events.put(json.loads(line))
        code = process.wait()
        where = f" on {node.name}" if node.job is not None else ""
        self.events.put({"event": "gone", "rank": rank, "code": code, "where": where, "lost": process.lost})

    def wait(self) -> StageResult:
        """Until all have ended; hands on what rank 0 says. Raises why the first one failed, when all are dead."""
        titles: set[str] = set()
        try:
            while self.running:
                if why := self.lacking():
                    raise OutsideError(why)
                with suppress(Empty):
                    event = self.events.get(timeout=1.0)
                    if _is_failure(event):
                        raise self._cause(event)
                    self._handle(event, titles)
        finally:
            for title in titles:
                log.current_sink().end(title)
        result = self.done[0]["result"]
        peaks = [self.done[rank]["peak_memory_mb"] for rank in sorted(self.done)]
        result["results"].setdefault("parallel", {})["peak_memory_mb"] = peaks
        outputs = {name: Output(**output) for name, output in result.pop("outputs").items()}
        return StageResult(outputs, **result)

    def _handle(self, event: dict[str, Any], titles: set[str]) -> None:
        match event["event"]:
            case "progress":
                self.begun = True
                titles.add(event["title"])
                log.current_sink().progress(event["title"], event["done"], event["total"], event["note"])
            case "end":
                log.current_sink().end(event["title"])
            case "message":
                logger.info("%s", event["text"])
            case "metrics":
                tracker = self.context.metrics.tracker
                if tracker is not None:
                    tracker.log(event["step"], event["values"])
            case "alert":
                self.context.metrics.alert(event["title"], event["text"])
            case "done":
                self.done[event["rank"]] = event
            case "gone":
                self.running -= 1

    def _cause(self, first: dict[str, Any]) -> Exception:
        """Why the ranks ended. One whose neighbour was killed reports a broken connection: the kill is the cause."""
        seen = [first]
        asked = first.get("code") == OutsideError.exit_code  # perhaps of a server that is about to be found dead
        until = time.monotonic() + (SETTLE if first["event"] == "gone" or first.get("bug") or asked else 0)
        with suppress(Empty):
            while (left := until - time.monotonic()) > 0 and len(seen) < 2 * len(self.processes):
                event = self.events.get(timeout=left)
                if _is_failure(event):
                    seen.append(event)
        self.kill()
        if why := self.lacking():
            return OutsideError(why)
        told = {e["rank"] for e in seen if e["event"] == "failed"}
        killed = [e for e in seen if e["event"] == "gone" and _by_force(e) and e["rank"] not in told]
        killed.sort(key=lambda e: e["code"] == -signal.SIGABRT)  # what a library does whose neighbour is gone
        mended = [e for e in seen if e["event"] == "failed" and not e.get("bug")]
        event = next(iter([*killed, *mended, *(e for e in seen if e["event"] == "failed"), first]))
        return self._error(event)

    def _error(self, event: dict[str, Any]) -> Exception:
        rank = event["rank"]
        seen = f"see {self.logs / f'rank-{rank}.log'}"
        if event["event"] == "gone":
            code, where = event["code"], event["where"]
            if event["lost"]:
                return OutsideError(f"rank {rank} is gone with its node{where}; the same command goes on from here")
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            hint = " (out of memory is the usual cause)" if code == -9 else ""
            return OutsideError(f"rank {rank}{where} {how}{hint}; {seen}; the same command goes on from here")
        if event.get("bug"):
            logging.getLogger().error("rank %d: %s", rank, event["traceback"])
            return RuntimeError(f"rank {rank}: {event['problems'][0]}")
        errors: dict[int, type[OpenR1Error]] = {UserError.exit_code: UserError, Terminated.exit_code: Terminated}
        return errors.get(event["code"], OutsideError)(*event["problems"])

    def send(self, number: int) -> None:
        """Hand a signal on to every process that still runs."""
        if number == signal.SIGTERM or self.begun:  # one that still starts would die of SIGUSR1
            for process in self.processes:
                process.send_signal(number)  # nothing to one that has ended

    def kill(self) -> None:
        """End every process that still runs; they can be killed at any time."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):  # one on a node that does not answer
                process.wait(30)


def _by_force(event: dict[str, Any]) -> bool:
    return event["code"] < 0 or bool(event["lost"])


def _is_failure(event: dict[str, Any]) -> bool:
    return event["event"] == "failed" or (event["event"] == "gone" and event["code"] != 0)
