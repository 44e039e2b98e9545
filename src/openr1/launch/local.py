"""Runs a plan on this machine: workers take stages whose inputs are there, side by side where the graph allows it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from openr1.config.graph import upstream
from openr1.config.recipe import Recipe
from openr1.errors import OpenR1Error, OutsideError, Terminated, UserError
from openr1.launch import hardware
from openr1.launch.child import forwarding
from openr1.launch.engine import COMMAND
from openr1.launch.follow import Follower, followers_of
from openr1.launch.plan import Step
from openr1.log import logger

# glibc gives freed memory back to the kernel and asks for it again at every training step; keeping it is faster
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **ALLOCATOR}


class StageFailed(OpenR1Error):
    """A stage ended badly; `problems` are its lines, `code` the exit code."""

    def __init__(self, stage: str, code: int, problems: Sequence[str]) -> None:
        self.exit_code = code
        self.problems = [p if p.startswith(f"{stage}: ") else f"{stage}: {p}" for p in problems]
        super().__init__("\n".join(self.problems))


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    stage: str | None = None
    titles: set[str] = field(default_factory=set)


def typed_command() -> list[str]:
    """The command line as the user typed it, the program by its name."""
    program = Path(sys.argv[0]).name
    return ["openr1" if program == "__main__.py" else program, *sys.argv[1:]]


def worker_count(recipe: Recipe, steps: Sequence[Step]) -> int:
    """How many stages run side by side: what the site says, else as many as the graph has branches and cores allow.

    Small models train faster in two processes of one thread than in one of two; a GPU is not shared.
    """
    wanted = recipe.cluster.workers
    if wanted is not None:
        return wanted
    if hardware.gpu_count():
        return 1
    return max(1, min(hardware.cores(), _width(recipe, [s.stage for s in steps if s.action != "skip"])))


def _width(recipe: Recipe, names: Sequence[str]) -> int:
    """The largest number of stages at the same depth of the graph."""
    depth: dict[str, int] = {}
    for name in names:
        depth[name] = 1 + max((depth[u] for u in upstream(recipe.stages[name]) if u in depth), default=0)
    return max((list(depth.values()).count(d) for d in set(depth.values())), default=1)


class Interrupted(UserError):
    """Ended from the keyboard; the exit code is a shell's for that."""

    exit_code = 130


class LocalRun:
    """Executes the steps of a plan; raises StageFailed for the first stage that fails, after the others have ended."""

    def __init__(self, recipe: Recipe, folder: Path, steps: Sequence[Step], settings_from: Path | None = None) -> None:
        """`settings_from` is the folder of the `run.yaml` that the processes read, by default the run's."""
        self.recipe, self.folder, self.settings_from = recipe, folder, settings_from or folder
        self.todo = [s for s in steps if s.action != "skip"]
        self.done = {s.stage for s in steps if s.action == "skip"}
        self.asked = {s.stage for s in steps}
        self.workers: list[_Worker] = []
        self.events: Queue[tuple[_Worker | Follower, dict[str, Any]]] = Queue()
        self.followers: list[Follower] = []
        self.followed: set[str] = set()
        self.failure: StageFailed | None = None
        self.terminated = self.said_so = False
        self.given_up: str | None = None
        self.total = len(steps)

    def run(self) -> None:
        if not self.todo:
            return
        count = worker_count(self.recipe, self.todo)
        try:
            with forwarding(self._forward):
                self._loop(count)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on from here") from None
        finally:
            for follower in self.followers:
                follower.kill()
            for worker in self.workers:
                _stop(worker)
        if self.failure:
            raise self.failure
        if self.terminated and self.todo:
            raise Terminated("ended by SIGTERM; the same command goes on from here")

    def _forward(self, number: int) -> None:
        """SIGTERM and SIGUSR1 to the stages that run: what trains saves at its next step, and then ends or goes on."""
        self.terminated = self.terminated or number == signal.SIGTERM
        for worker in self.workers:
            heeds = number == signal.SIGTERM or worker.titles  # one that still starts would die of SIGUSR1
            if worker.stage is not None and heeds:
                worker.process.send_signal(number)

    def give_up(self, why: str) -> None:
        """Have `run` end everything within a second or two, and raise OutsideError; from any thread."""
        self.given_up = self.given_up or why

    def _loop(self, count: int) -> None:
        while True:
            if self.given_up:
                raise OutsideError(self.given_up)
            self._hand_out(count)
            working = {w.stage for w in self.workers if w.stage}
            for follower in self.followers:
                if follower.source not in working or self.failure:
                    follower.stop()
            if self.terminated and not self.said_so:
                self.said_so = True
                logger.info("SIGTERM: what trains saves at the end of its step, then all ends")
            if not working and not self.followers:
                return
            try:
                sender, event = self.events.get(timeout=1.0)
            except Empty:
                continue
            if isinstance(sender, Follower):
                self._handle_follower(sender, event)
            else:
                self._handle(sender, event)

    def _hand_out(self, count: int) -> None:
        while not (self.failure or self.terminated):
            step = next((s for s in self.todo if self._ready(s)), None)
            if step is None:
                return
            worker = next((w for w in self.workers if w.stage is None), None)
            if worker is None and len(self.workers) >= count:
                return
            worker = worker or self._start(count)
            self.todo.remove(step)
            worker.stage = step.stage
            logger.info("[%d/%d] %s", len(self.done) + 1, self.total, step.stage)
            assert worker.process.stdin is not None
            worker.process.stdin.write(json.dumps(asdict(step)) + "\n")
            worker.process.stdin.flush()

    def _ready(self, step: Step) -> bool:
        needs = upstream(self.recipe.stages[step.stage])
        followed = any(f.stage == step.stage for f in self.followers)
        return not followed and all(u in self.done or u not in self.asked for u in needs)

    def _start(self, count: int) -> _Worker:
        share = self.recipe.cluster.threads or max(1, hardware.cores() // count)
        threads = os.environ.get("OMP_NUM_THREADS") or str(share)
        places = (str(self.folder), str(self.settings_from))
        command = [sys.executable, "-m", "openr1.launch.worker", *places, str(os.getpid())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, **os.environ, "OMP_NUM_THREADS": threads, COMMAND: json.dumps(typed_command())},
        )
        worker = _Worker(process)
        self.workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self.events.put((worker, json.loads(line)))
        self.events.put((worker, {"event": "gone", "code": worker.process.wait()}))

    def _handle(self, worker: _Worker, event: dict[str, Any]) -> None:
        from openr1 import log

        match event["event"]:
            case "progress":
                worker.titles.add(event["title"])
                if worker.stage is not None:
                    self._follow(worker.stage)
                log.current_sink().progress(event["title"], event["done"], event["total"], event["note"])
            case "end":
                log.current_sink().end(event["title"])
            case "message":
                logger.info("%s: %s", worker.stage, event["text"].removeprefix(f"{worker.stage}: "))
            case "done":
                self.done.add(str(worker.stage))
                logger.info("%s done in %.1f s", worker.stage, event["seconds"])
                worker.stage = None
            case "failed":
                self._fail(worker, event)
            case "gone" if worker.stage:
                for title in worker.titles:
                    log.current_sink().end(title)
                self._fail(worker, {"code": 3, "problems": [_death(event["code"], self.folder, worker.stage)]})

    def _follow(self, stage: str) -> None:
        """Once a generate stage has begun: have its completions graded while they are made."""
        if stage in self.followed:
            return
        self.followed.add(stage)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        for name in followers_of(self.recipe, stage, self.todo, self.done | (set(self.recipe.stages) - self.asked)):
            logger.info("%s: grades while %s runs", name, stage)
            self.followers.append(
                Follower(name, stage, self.folder, self.settings_from, environment, lambda *e: self.events.put(e))
            )

    def _handle_follower(self, follower: Follower, event: dict[str, Any]) -> None:
        if event["event"] == "message":
            logger.info("%s: %s", follower.stage, event["text"].removeprefix(f"{follower.stage}: "))
        elif event["event"] == "gone":
            self.followers.remove(follower)
            if event["code"]:
                how = f"signal {-event['code']}" if event["code"] < 0 else f"code {event['code']}"
                text = "%s: the process that graded while %s ran has ended (%s); nothing is lost, %s grades the rest"
                logger.warning(text, follower.stage, follower.source, how, follower.stage)

    def _fail(self, worker: _Worker, event: dict[str, Any]) -> None:
        stage, worker.stage = str(worker.stage), None
        problems = list(event["problems"])
        if event.get("bug"):
            problems[0] += f" (a fault of openr1, please report it; traceback in {self.folder / stage / 'logs'})"
            logger.debug("%s", event["traceback"])
        code = Terminated.exit_code if self.terminated else event["code"]
        self.failure = self.failure or StageFailed(stage, code, problems)


def _death(code: int, folder: Path, stage: str) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = "; out of memory is the usual cause" if code == -9 else ""
    return f"its process was {how}{hint}; see {folder / stage / 'logs'}; the same command goes on from here"


def _stop(worker: _Worker) -> None:
    """End of input ends an idle worker; one in the middle of a stage is killed and will be resumed."""
    process = worker.process
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError as e:
            raise OutsideError(f"a worker's pipe broke: {e}") from e
    try:
        process.wait(timeout=20 if worker.stage is None else 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
