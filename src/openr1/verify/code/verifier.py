"""`verifier=code`: programs graded in the sandbox, which opens with the first program that is graded."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from openr1.records import Status, Verdict, stable_hash
from openr1.sandbox import Sandbox
from openr1.verify.base import Info, Verifier
from openr1.verify.code.blocks import program_of
from openr1.verify.code.run import CodeResult, grade_program
from openr1.verify.code.suite import BadSuite, Suite, suite_of

CACHE_SIZE = 50_000
_lock = threading.Lock()
_cache: dict[tuple[str, str, bool], CodeResult] = {}
_shared: dict[int, Sandbox] = {}


def shared_sandbox(workers: int | None = None) -> Sandbox:
    """This process's sandbox, opened on first use. Raises OutsideError where nothing on this machine isolates."""
    with _lock:
        sandbox = _shared.get(os.getpid())
        if sandbox is None:
            _shared.clear()
            sandbox = _shared[os.getpid()] = Sandbox(workers=workers)
            atexit.register(close_sandbox)
        return sandbox


def close_sandbox() -> None:
    """End this process's sandbox; the next program opens another."""
    with _lock:
        sandbox = _shared.pop(os.getpid(), None)
    if sandbox is not None:
        sandbox.close()


def forget_results() -> None:
    """Forget what programs were graded before."""
    with _lock:
        _cache.clear()


def graded(program: str, suite: Suite, full: bool = False, workers: int | None = None) -> CodeResult:
    """The result of a program, from the cache where the same was graded before; a failure of ours is not kept."""
    name = stable_hash(program, length=32)
    key = (name, suite.key, full)
    found = _cache.get((name, suite.key, True)) or _cache.get(key)
    if found is None:
        found = grade_program(program, suite, shared_sandbox(workers), full)
        if found.status != "infra_error":
            with _lock:
                while len(_cache) >= CACHE_SIZE:
                    del _cache[next(iter(_cache))]
                _cache[key] = found
    return found


@dataclass(frozen=True)
class Timed:
    """A result and the seconds that it took; next to none where it was known."""

    result: CodeResult
    seconds: float


def grade_all(
    rows: Sequence[tuple[str, Suite] | None],
    full: bool = False,
    workers: int | None = None,
    until: float | None = None,
) -> list[Timed | None]:
    """Results in order, as many programs at a time as the sandbox has workers, equal ones once.

    None for a row that is None, and for one that is not done at `until` (of time.monotonic).
    """
    pool = ThreadPoolExecutor(max_workers=shared_sandbox(workers).workers + 1)
    asked: dict[tuple[str, str], Future[Timed]] = {}

    def one(program: str, suite: Suite) -> Timed:
        start = time.perf_counter()
        return Timed(graded(program, suite, full, workers), time.perf_counter() - start)

    try:
        for row in rows:
            if row is not None and (row[0], row[1].key) not in asked:
                asked[row[0], row[1].key] = pool.submit(one, *row)
        return [None if row is None else _wait(asked[row[0], row[1].key], until) for row in rows]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _wait(future: Future[Timed], until: float | None) -> Timed | None:
    try:
        return future.result(None if until is None else max(0.0, until - time.monotonic()))
    except FutureTimeout:
        return None


class CodeVerifier(Verifier):
    """A program is correct where it passes every test of its row's `verification_info`. Needs no gold column."""

    name = "code"
    needs_gold = False
    needs_info = True
    standalone = True
    votes = False

    def prepare(self) -> dict[str, Any]:
        return {"sandbox": shared_sandbox().describe()}

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        try:
            suite_of(info)
        except BadSuite as error:
            return str(error)
        return None

    def verify_batch(
        self,
        completions: Sequence[str],
        golds: Sequence[Any],
        infos: Sequence[Info | None],
        finish_reasons: Sequence[str | None],
        *,
        workers: int | None = None,
        deadline: float | None = None,
    ) -> list[Verdict]:
        """Verdicts in order, as many programs at a time as the sandbox has workers."""
        until = None if deadline is None else time.monotonic() + deadline
        read = [self._read(*row) for row in zip(completions, infos, finish_reasons, strict=True)]
        asked = grade_all([None if isinstance(row, Verdict) else row for row in read], workers=workers, until=until)
        return [
            row if isinstance(row, Verdict) else self._verdict(row[0], found)
            for row, found in zip(read, asked, strict=True)
        ]

    def _read(self, completion: Any, info: Info | None, finish: str | None) -> Verdict | tuple[str, Suite]:
        try:
            suite = suite_of(info)
        except BadSuite as error:
            return self._say("bad_gold", None, "gold", str(error))
        if completion is None:
            return self._say("no_answer", None, "extract", "the completion is empty")
        if not isinstance(completion, str):
            return self._say("error", None, "extract", f"the completion is {type(completion).__name__}, not text")
        found = program_of(completion, suite.language, finish)
        if found.text is None:
            return self._say(found.status, None, "extract", found.detail)
        return found.text, suite

    def _verdict(self, program: str, found: Timed | None) -> Verdict:
        if found is None:
            return self._say("infra_error", program, "deadline", "not graded within the deadline of the batch")
        result = found.result
        ms = round(found.seconds * 1000, 3)
        decided_by, detail = result.deciding.decided_by, result.detail
        return Verdict(result.status, program, decided_by, ms, self.name, self.version, detail)

    def _say(self, status: Status, program: str | None, decided_by: str, detail: str | None) -> Verdict:
        return Verdict(status, program, decided_by, 0.0, self.name, self.version, detail)
