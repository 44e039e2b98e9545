"""The pool of grading workers: started on first need, shared by every thread of the process, hard to break.

One driver thread owns one worker process and asks it one thing at a time; batches of different callers take turns. A
caller blocks until its batch is done or its deadline has passed, which is the back-pressure. No signal is used here,
so a trainer's threads, a notebook and asyncio (through `grade_async`) are all the same to it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from openr1.verify.worker import pack, read_frame, write_all

logger = logging.getLogger("openr1")

CPU_SECONDS = 1.0
WALL_SECONDS = 8.0
START_SECONDS = 120.0
MEMORY_BYTES = 1 << 30
_KEEP_ENV = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


def default_workers() -> int:
    """`OPENR1_GRADE_WORKERS`, or the cores this process may use, 16 at most."""
    asked = os.environ.get("OPENR1_GRADE_WORKERS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, min(16, len(os.sched_getaffinity(0))))


class _Stuck(Exception):
    """The worker did not answer within the wall limit."""


class _Lost(Exception):
    """The worker is gone or talks nonsense."""


class _Process:
    """One worker process and its two pipes."""

    def __init__(self) -> None:
        # Isolated mode keeps the caller's folder (a stray sympy.py) off the path; ours comes last, as it was.
        paths = [path for path in sys.path if path and os.path.isabs(path)]
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = (
            f"import sys; sys.path += [p for p in {[here, *paths]!r} if p not in sys.path]; "
            f"from openr1.verify.worker import main; main({CPU_SECONDS!r}, {MEMORY_BYTES!r})"
        )
        env = {name: os.environ[name] for name in _KEEP_ENV if name in os.environ}
        env |= {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=env,
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin and self.process.stdout
        self.to, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        if "ready" not in self._receive(START_SECONDS):
            raise _Lost("the worker did not start")

    def _receive(self, seconds: float) -> dict[str, Any]:
        poller = select.poll()
        poller.register(self.back, select.POLLIN)
        if not poller.poll(max(1, int(seconds * 1000))):
            raise _Stuck
        try:
            frame = read_frame(self.back)
        except (OSError, ValueError) as error:
            raise _Lost(str(error)) from error
        if frame is None:
            raise _Lost(self._last_words())
        return frame

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:500] if lines else "the worker ended without a word"

    def ask(self, request: dict[str, Any], wall: float) -> dict[str, Any]:
        try:
            write_all(self.to, pack(request))
        except OSError as error:
            raise _Lost(self._last_words()) from error
        return self._receive(wall)

    def cpu_seconds(self) -> float:
        """CPU time of the worker's child so far; 0 where it cannot be read."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as handle:
                child = handle.read().split()[0]
            with open(f"/proc/{child}/stat") as handle:
                fields = handle.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return 0.0

    def kill(self) -> None:
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.forget()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)

    def forget(self) -> None:
        """Close our ends of the pipes; the worker ends when its input does."""
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@dataclass
class _Batch:
    jobs: list[dict[str, Any]]
    limit: int
    deadline: float | None
    results: list[dict[str, Any] | None] = field(default_factory=list)
    next: int = 0
    active: int = 0

    def finished(self) -> bool:
        return self.next >= len(self.jobs) and self.active == 0


class Pool:
    """At most `size` workers; `run` may be called from any thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pid = os.getpid()
        self.closed = False
        self._changed = threading.Condition()
        self._batches: deque[_Batch] = deque()
        self._threads: list[threading.Thread] = []
        self._processes: set[_Process] = set()
        self._idle = 0

    @property
    def started(self) -> int:
        """How many worker processes live now."""
        return len(self._processes)

    def worker_pids(self) -> list[int]:
        return [p.process.pid for p in list(self._processes)]

    def run(self, jobs: list[dict[str, Any]], workers: int | None, seconds: float | None) -> list[dict[str, Any]]:
        """Answers in the order of `jobs`; `seconds` bounds the batch, what is not done by then is `infra_error`."""
        if not jobs:
            return []
        limit = workers or self.size
        batch = _Batch(jobs, limit, None if seconds is None else time.monotonic() + seconds, [None] * len(jobs))
        with self._changed:
            if self.closed:
                raise RuntimeError("the grading pool is closed")
            self.size = max(self.size, limit)
            self._batches.append(batch)
            while len(self._threads) < self.size and self._idle < len(jobs):
                thread = threading.Thread(target=self._drive, name="openr1-grade", daemon=True)
                self._threads.append(thread)
                self._idle += 1
                thread.start()
            self._changed.notify_all()
            while not batch.finished() and not self.closed:
                left = None if batch.deadline is None else batch.deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            if batch in self._batches:
                self._batches.remove(batch)
            batch.next = len(batch.jobs)
        late = {"status": "infra_error", "decided_by": "deadline", "detail": "not graded before the batch's deadline"}
        return [result if result is not None else late for result in list(batch.results)]

    def _take(self) -> tuple[_Batch, int] | None:
        """The next job in turn; blocks. None when the pool closes."""
        with self._changed:
            while not self.closed:
                for _ in range(len(self._batches)):
                    batch = self._batches[0]
                    self._batches.rotate(-1)
                    if batch.next < len(batch.jobs) and batch.active < batch.limit:
                        index = batch.next
                        batch.next += 1
                        batch.active += 1
                        self._idle -= 1
                        return batch, index
                self._changed.wait()
        return None

    def _drive(self) -> None:
        process: _Process | None = None
        while (taken := self._take()) is not None:
            batch, index = taken
            result, process = self._grade(process, batch.jobs[index])
            with self._changed:
                batch.results[index] = result
                batch.active -= 1
                self._idle += 1
                self._changed.notify_all()
        if process is not None:
            process.kill()

    def _grade(self, process: _Process | None, job: dict[str, Any]) -> tuple[dict[str, Any], _Process | None]:
        """One answer, and the process that lives on. A fault of ours is tried twice, then it is `infra_error`."""
        detail = ""
        for _ in range(2):
            if self.closed:
                break
            try:
                if process is None:
                    process = self._spawn()
                reply = process.ask(job, WALL_SECONDS + (START_SECONDS if job.get("preload") else 0))
            except (_Stuck, _Lost, OSError) as error:
                stuck = process is not None and isinstance(error, _Stuck) and process.cpu_seconds() >= CPU_SECONDS / 2
                detail = "no answer within the wall limit" if isinstance(error, _Stuck) else str(error)
                self._end(process)
                process = None
                if stuck:
                    return {"status": "timeout", "decided_by": "limit", "detail": detail}, None
                continue
            if "died" not in reply:
                return reply, process
            if reply["died"] == -signal.SIGPROF:
                return {"status": "timeout", "decided_by": "limit", "detail": "out of CPU time"}, process
            return {"status": "error", "decided_by": "limit", "detail": f"grader ended with {reply['died']}"}, process
        logger.warning("grading failed on our side, the row is masked: %s", detail)
        return {"status": "infra_error", "decided_by": "pool", "detail": detail or "the pool was closed"}, process

    def _spawn(self) -> _Process:
        process = _Process()
        with self._changed:
            self._processes.add(process)
        return process

    def _end(self, process: _Process | None) -> None:
        if process is not None:
            with self._changed:
                self._processes.discard(process)
            process.kill()

    def close(self) -> None:
        """End every worker now; waiting callers get `infra_error`."""
        with self._changed:
            self.closed = True
            processes, self._processes = list(self._processes), set()
            self._changed.notify_all()
        for process in processes:
            process.kill()


_pool: Pool | None = None
_guard = threading.Lock()


def shared_pool() -> Pool:
    """The process-wide pool, made on first use."""
    global _pool
    with _guard:
        if _pool is None or _pool.closed or _pool.pid != os.getpid():
            _pool = Pool(default_workers())
        return _pool


def current_pool() -> Pool | None:
    """The pool if one was made in this process."""
    return _pool


def close_pool() -> None:
    """End the workers; the next batch that needs one starts afresh."""
    global _pool
    with _guard:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _after_fork() -> None:
    """A forked child must not talk to its parent's workers, nor keep their pipes open."""
    global _pool, _guard
    pool, _pool, _guard = _pool, None, threading.Lock()
    if pool is not None:
        for process in list(pool._processes):
            process.forget()


atexit.register(close_pool)
os.register_at_fork(after_in_child=_after_fork)
