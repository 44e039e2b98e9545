"""Starts the processes that train one stage together, and waits for them: the side of the process that owns the stage.

The ranks are ordinary processes with torchrun's environment; they meet at a store that the owner keeps, on a port of
the loopback interface that the kernel chose. They die with the owner, and all end when one does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from openr1 import log
from openr1.config.recipe import Recipe, save_run_yaml
from openr1.errors import OpenR1Error, OutsideError, Terminated, UserError
from openr1.launch import hardware
from openr1.launch.child import forwarding
from openr1.log import logger
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
    _check_machine(context.name, settings)
    model = model_folder(context)
    save_run_yaml(recipe, logs)
    command = [sys.executable, "-m", "openr1.launch.rank", str(folder), context.name, "--settings", str(logs)]
    command += ["--model", str(model), "--logs", str(logs), "--parent", str(os.getpid())]
    with _store() as port, _extensions(settings.parallel.kind) as extra:
        ranks = Ranks(context, logs)
        try:
            for rank in range(settings.world_size):
                own = {} if settings.parallel.kind == "single" else local_environment(rank, settings.world_size, port)
                ranks.start(command, own | extra)
            with forwarding(ranks.send):
                return ranks.wait()
        finally:
            ranks.kill()


def _check_machine(name: str, settings: Any) -> None:
    """What is not here, told once and before a process starts."""
    wanted, there = settings.world_size, hardware.gpu_count()
    problems = unavailable(settings.train, settings.parallel, there > 0)
    if problems:
        raise UserError(*(f"{name}: {p}" for p in problems))
    if 0 < there < wanted:
        raise UserError(f"{name}: {wanted} processes want a GPU each, {there} are here; set parallel.processes")


def local_environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun would tell a rank on one machine; the threads of the owner are shared out."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or hardware.cores())
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the owner keeps the store
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", LOOPBACK),
        "OMP_NUM_THREADS": str(max(1, threads // count)),
    }


@contextmanager
def _store() -> Iterator[int]:
    """The store at which ranks meet; yields its port, which nobody else can have taken."""
    from torch.distributed import TCPStore

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        store = TCPStore(
            "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
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
        self.processes: list[subprocess.Popen[str]] = []
        self.events: Queue[dict[str, Any]] = Queue()
        self.done: dict[int, dict[str, Any]] = {}
        self.running = 0
        self.begun = False

    def start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start one more process; call it from the main thread, with whose end the ranks end."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self.processes.append(process)
        self.running += 1
        rank = int(environment.get("RANK", len(self.processes) - 1))
        threading.Thread(target=self._listen, args=(process, rank), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str], rank: int) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.events.put(json.loads(line))
        self.events.put({"event": "gone", "rank": rank, "code": process.wait()})

    def wait(self) -> StageResult:
        """Until all have ended; hands on what rank 0 says. Raises why the first one failed, when all are dead."""
        titles: set[str] = set()
        try:
            while self.running:
                event = self.events.get()
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
        until = time.monotonic() + (SETTLE if first["event"] == "gone" or first.get("bug") else 0)
        with suppress(Empty):
            while (left := until - time.monotonic()) > 0 and len(seen) < 2 * len(self.processes):
                event = self.events.get(timeout=left)
                if _is_failure(event):
                    seen.append(event)
        self.kill()
        told = {e["rank"] for e in seen if e["event"] == "failed"}
        killed = [e for e in seen if e["event"] == "gone" and e["code"] < 0 and e["rank"] not in told]
        killed.sort(key=lambda e: e["code"] == -signal.SIGABRT)  # what a library does whose neighbour is gone
        mended = [e for e in seen if e["event"] == "failed" and not e.get("bug")]
        event = next(iter([*killed, *mended, *(e for e in seen if e["event"] == "failed"), first]))
        return self._error(event)

    def _error(self, event: dict[str, Any]) -> Exception:
        rank = event["rank"]
        seen = f"see {self.logs / f'rank-{rank}.log'}"
        if event["event"] == "gone":
            code = event["code"]
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            hint = " (out of memory is the usual cause)" if code == -9 else ""
            return OutsideError(f"rank {rank} {how}{hint}; {seen}; the same command goes on from here")
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
            process.wait()


def _is_failure(event: dict[str, Any]) -> bool:
    return event["event"] == "failed" or (event["event"] == "gone" and event["code"] != 0)
