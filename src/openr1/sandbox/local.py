"""Running programs in sandboxes of this machine: one for running, a looser one for compiling, both kept warm."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from openr1.errors import OutsideError
from openr1.sandbox import compiled
from openr1.sandbox.checks import MB, Test
from openr1.sandbox.languages import OUTPUT, Language
from openr1.sandbox.outcome import Outcome, Status
from openr1.sandbox.settings import Limits
from openr1.sandbox.worker import Broken, Launch, Worker, read_back, sealed

logger = logging.getLogger("openr1")

ATTEMPTS = 4
STDERR_BYTES = 1 << 16
INTERPRETER_MB = 16  # of peak memory, which a forked child shares with the zygote
COMPILE_LIMITS = Limits(cpu_s=15, wall_s=300, memory_mb=1024, processes=32, files_mb=192, output_mb=8)
_OUT_OF_MEMORY = re.compile(rb"^(MemoryError\b|.*std::bad_alloc)", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """One program with its tests."""

    sources: dict[str, bytes]
    language: Language
    tests: list[Test]
    limits: Limits
    stop: Callable[[int, Outcome], bool] | None = None


@dataclass(frozen=True)
class Prepared:
    """A program ready to start: what the zygote is asked for, and the bytes of what is started."""

    request: dict[str, Any]
    body: bytes
    files: dict[str, bytes]


class LocalRunner:
    """Runs jobs one after the other; belongs to one thread."""

    def __init__(self, launch: Callable[[str], Launch], recycle_after: int) -> None:
        self._launch = launch
        self._recycle_after = recycle_after
        self._workers: dict[str, Worker] = {}
        self.closed = False

    # ------------------------------------------------------------------------------------------------------ running
    def run(self, job: Job) -> list[Outcome]:
        """Outcomes in the order of the tests, up to where `stop` said so."""
        prepared = self._prepare(job)
        if isinstance(prepared, Outcome):
            return [prepared] * len(job.tests)
        outcomes: list[Outcome] = []
        with _open_fds() as fds:
            fds += [sealed("program", prepared.body), os.memfd_create("code", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)]
            for number, test in enumerate(job.tests):
                outcome = self._test(job, prepared, test, fds)
                outcomes.append(outcome)
                if outcome.status == "compile_error":
                    return outcomes + [outcome] * (len(job.tests) - number - 1)
                if job.stop is not None and job.stop(number, outcome):
                    break
        self._count("run")
        return outcomes

    def _prepare(self, job: Job) -> Prepared | Outcome:
        language = job.language
        others = dict(list(job.sources.items())[1:])
        if language.compiler is not None:
            made = self._compile(job)
            started = {"start": "binary", "command": ["./" + OUTPUT]}
            return made if isinstance(made, Outcome) else Prepared(started, made, {})
        main = next(iter(job.sources.values()))
        if language.interpreter is not None:
            command = [language.tool_path(), *language.arguments, language.source]
            return Prepared({"start": "command", "command": command}, b"", {language.source: main, **others})
        return Prepared({"start": "python"}, main, others)

    def _test(self, job: Job, prepared: Prepared, test: Test, program: list[int]) -> Outcome:
        request = {
            **prepared.request,
            "arguments": list(test.arguments),
            "limits": job.limits.model_dump(),
        }
        kind = "run" if job.language.interpreter is None else f"run:{job.language.name}"
        return self._attempt(kind, request, program, test.stdin, {**prepared.files, **test.files}, job.limits)[0]

    def _attempt(
        self, kind: str, request: dict[str, Any], program: list[int], stdin: bytes, files: dict[str, bytes],
        limits: Limits, collect: str | None = None,
    ) -> tuple[Outcome, bytes]:  # fmt: skip
        """One run, again in a fresh sandbox where ours broke; what was collected beside the outcome."""
        reason = ""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(kind, request, program, stdin, files, limits, collect)
            except Broken as error:
                reason = str(error)
                self._discard(kind)
                if self.closed:
                    raise OutsideError("the sandbox was closed while a program ran") from None
                logger.debug("sandbox: %s; attempt %d of %d", reason, attempt + 1, ATTEMPTS)
                time.sleep(0.05 * attempt)
        return Outcome("infra_error", stderr=f"sandbox: {reason}".encode()), b""

    def _once(
        self, kind: str, request: dict[str, Any], program: list[int], stdin: bytes, files: dict[str, bytes],
        limits: Limits, collect: str | None,
    ) -> tuple[Outcome, bytes]:  # fmt: skip
        worker = self._worker(kind)
        with _open_fds() as fds:
            out, err, made = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("out", "err", "made"))
            fds += [out, err, made]
            source = sealed("in", stdin)
            fds.append(source)
            for data in files.values():
                fds.append(sealed("file", data))
            request = {**request, "files": list(files), "collect": collect, "collect_fd": 5}
            reply = worker.run(request, [*program, source, out, err, made, *fds[4:]])
            outcome = _outcome(reply, out, err, limits, _mark(program[1]))
            if not reply["clean"] or reply["killed"]:
                self._discard(kind)
            data = read_back(made, COMPILE_LIMITS.files_mb * MB)[0] if reply.get("collected") else b""
            return outcome, data

    # ---------------------------------------------------------------------------------------------------- compiling
    def _compile(self, job: Job) -> bytes | Outcome:
        """The executable of a program, from the cache where its sources were compiled before."""
        language = job.language
        tool = language.tool_path()
        key = _key(language, tool, job.sources)
        if (kept := compiled.load(key)) is not None:
            return kept
        names = [name for name in job.sources if not name.endswith((".h", ".hpp"))]
        words: list[str] = []
        for word in language.arguments:
            words += names if word == "{sources}" else [OUTPUT if word == "{output}" else word]
        request = {
            "start": "command",
            "command": [tool, *words],
            "limits": COMPILE_LIMITS.model_dump(),
            "arguments": [],
        }
        with _open_fds() as fds:
            fds += [sealed("program", b""), os.memfd_create("code", os.MFD_CLOEXEC)]
            outcome, data = self._attempt("compile", request, fds, b"", job.sources, COMPILE_LIMITS, OUTPUT)
        self._count("compile")
        if outcome.status == "wall_timeout":  # a compiler waits for nothing but a core
            return Outcome("infra_error", stderr=b"sandbox: the compiler had no core for too long")
        if outcome.status == "infra_error":
            return outcome
        if outcome.status != "ok" or not data:
            said = outcome.stderr or f"the compiler made no executable: {outcome.status}".encode()
            return replace(outcome, status="compile_error", stdout=b"", stderr=said)
        compiled.save(key, data)
        return data

    # ------------------------------------------------------------------------------------------------------ workers
    def _worker(self, kind: str) -> Worker:
        if self.closed:
            raise Broken("closed")
        if kind not in self._workers:
            self._workers[kind] = Worker(self._launch(kind))
        return self._workers[kind]

    def _discard(self, kind: str) -> None:
        worker = self._workers.pop(kind, None)
        if worker is not None:
            worker.kill()

    def _count(self, kind: str) -> None:
        worker = self._workers.get(kind)
        if worker is not None:
            worker.programs += 1
            if worker.programs >= self._recycle_after:
                self._discard(kind)

    def pids(self) -> list[int]:
        return [worker.process.pid for worker in list(self._workers.values())]

    def abort(self) -> None:
        """From another thread: end what runs; `run` then raises."""
        self.closed = True
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        self.closed = True
        for kind in list(self._workers):
            self._discard(kind)


@contextlib.contextmanager
def _open_fds() -> Iterator[list[int]]:
    fds: list[int] = []
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _mark(code: int) -> bytes:
    """What the child said before it became the program, in a file that no program holds open."""
    mark = os.pread(code, 500, 0)
    if mark[:1] == b"X":
        raise Broken(f"the program could not be started: {mark[1:].decode('utf-8', 'replace')}")
    return mark[:1]


def _key(language: Language, tool: str, sources: dict[str, bytes]) -> str:
    found = os.stat(tool)
    digest = hashlib.sha256(repr((language, tool, found.st_size, found.st_mtime_ns)).encode())
    for name, text in sources.items():
        digest.update(f"\0{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def _outcome(reply: dict[str, Any], out: int, err: int, limits: Limits, mark: bytes) -> Outcome:
    stdout, out_size = read_back(out, limits.output_mb * MB)
    stderr, err_size = read_back(err, STDERR_BYTES, from_end=True)
    flooded = max(out_size, err_size) > limits.output_mb * MB
    status: Status = "compile_error" if mark == b"E" else _status(reply, limits, flooded, stderr)
    return Outcome(
        status, stdout, stderr, reply["exit"],
        round(reply["cpu_s"], 4), round(reply["wall_s"], 4), round(reply["peak_mb"], 1),
    )  # fmt: skip


def _status(reply: dict[str, Any], limits: Limits, flooded: bool, stderr: bytes) -> Status:
    code, cpu, peak = reply["exit"], reply["cpu_s"], reply["peak_mb"]
    if reply["killed"] == "cpu" or cpu >= limits.cpu_s or (code == -signal.SIGKILL and cpu >= limits.cpu_s - 0.2):
        return "cpu_timeout"
    if reply["killed"] == "wall":
        return "wall_timeout"
    if flooded or code == -signal.SIGXFSZ:
        return "output_limit"
    if peak > limits.memory_mb + INTERPRETER_MB:
        return "memory"
    if code == 0:
        return "ok"
    if code == -signal.SIGKILL and limits.processes == 1:  # no program can send it to itself
        raise Broken("the program was killed from outside; is the machine out of memory?")
    if _OUT_OF_MEMORY.search(stderr) or (code < 0 and peak >= 0.9 * limits.memory_mb):
        return "memory"
    return "error"
