"""`Sandbox`: runs programs that nobody trusts, many at a time, from threads or from asyncio."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from openr1.errors import UserError
from openr1.sandbox import checks, tiers
from openr1.sandbox.languages import language_of
from openr1.sandbox.local import Job
from openr1.sandbox.outcome import Case, Outcome
from openr1.sandbox.settings import Limits, Tier

RECYCLE_AFTER = 200
Program = str | Mapping[str, str]
Inputs = Sequence[str | bytes | Case]
Stop = Callable[[int, Outcome], bool]


class Runner(Protocol):
    """What runs jobs for one thread."""

    def run(self, job: Job) -> list[Outcome]: ...

    def pids(self) -> list[int]: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Sandbox:
    """A pool of sandboxes, each with a worker thread of its own; a context manager, sync and async.

    >>> with Sandbox(workers=2) as sandbox:                                # doctest: +SKIP
    ...     [outcome] = sandbox.run("print(int(input()) * 2)", "python", ["21"])
    >>> outcome.stdout                                                     # doctest: +SKIP
    b'42\\n'

    `tier` is the strongest that works on this machine, or the one named; what it is, is `sandbox.tier`. A sandbox is
    replaced after `recycle_after` programs and after anything out of the ordinary.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits | None = None,
        *,
        tier: Tier | None = None,
        recycle_after: int = RECYCLE_AFTER,
    ) -> None:
        self.workers = workers if workers is not None else max(1, min(16, len(os.sched_getaffinity(0))))
        if self.workers < 1:
            raise UserError(f"sandbox: workers={workers}; at least 1")
        self.limits = limits or Limits()
        self.tier: Tier = tiers.choose(tier)
        self._recycle_after = recycle_after
        self._jobs: queue.SimpleQueue[tuple[Job, Future[list[Outcome]]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._runners: list[Runner] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    # ------------------------------------------------------------------------------------------------------- running
    def run(
        self,
        program: Program,
        language: str,
        inputs: Inputs,
        *,
        limits: Limits | None = None,
        stop: Stop | None = None,
    ) -> list[Outcome]:
        """Run a program once for every input, in order, each run in a fresh process.

        `program` is its text, or file names to texts, the main one first. `stop(index, outcome)` says after each run
        whether the rest is wanted; the list then ends there. Raises UserError before anything runs when the request
        itself is wrong.
        """
        return self._submit(program, language, inputs, limits, stop).result()

    async def run_async(
        self,
        program: Program,
        language: str,
        inputs: Inputs,
        *,
        limits: Limits | None = None,
        stop: Stop | None = None,
    ) -> list[Outcome]:
        """The same, awaited."""
        return await asyncio.wrap_future(self._submit(program, language, inputs, limits, stop))

    def _submit(
        self,
        program: Program,
        language: str,
        inputs: Inputs,
        limits: Limits | None,
        stop: Stop | None,
    ) -> Future[list[Outcome]]:
        known = language_of(language)
        sources = checks.sources(program, known.source)
        limits = limits or self.limits
        job = Job(sources, known, checks.tests(inputs, limits.files_mb, tuple(sources)), limits, stop)
        if limits.processes > 1 and self.tier == "landlock":
            raise UserError(f"limits: processes={limits.processes} cannot be counted in tier landlock; use bubblewrap")
        if known.tool is not None and self.tier != "piston":
            known.tool_path()
        future: Future[list[Outcome]] = Future()
        with self._lock:
            if self._closed or self._pid != os.getpid():
                raise UserError("this sandbox is closed, or belongs to another process; open one here")
            self._jobs.put((job, future))
            if len(self._threads) < self.workers:
                thread = threading.Thread(target=self._drive, name="openr1-sandbox", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def _drive(self) -> None:
        """One thread owns one runner: a sandbox dies with the thread that started it."""
        runner: Runner | None = None
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if runner is None:
                    runner = tiers.runner(self.tier, self.limits, self._recycle_after)
                    self._runners.append(runner)
                future.set_result(runner.run(job))
            except BaseException as error:  # handed to the caller, who waits for it
                future.set_exception(error)
        if runner is not None:
            runner.close()

    # ------------------------------------------------------------------------------------------------------- life
    def describe(self) -> dict[str, Any]:
        """What a manifest says of it."""
        report = tiers.probe(self.tier)
        return {"tier": self.tier, "python": report.python, "limits": self.limits.model_dump()}

    def worker_pids(self) -> list[int]:
        """The processes that sandboxes of this machine run in now."""
        return [pid for runner in list(self._runners) for pid in runner.pids()]

    def close(self) -> None:
        """End everything; runs that are under way raise."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for runner in list(self._runners):
            runner.abort()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        while not self._jobs.empty():
            item = self._jobs.get()
            if item is not None:
                item[1].cancel()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)
