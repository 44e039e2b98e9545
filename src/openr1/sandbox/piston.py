"""Tier `piston`: programs run on a Piston server, over HTTP (its API v2).

The server isolates and limits; it is trusted to. Its limits are its own: what it refuses is said. One request a test.
Programs and inputs are text there, so an input that is not UTF-8 is refused, and files are sources only.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from openr1.errors import OutsideError, UserError
from openr1.sandbox.checks import MB, Test
from openr1.sandbox.languages import Language
from openr1.sandbox.local import STDERR_BYTES, Job
from openr1.sandbox.outcome import Outcome, Status

ATTEMPTS = 4
SLACK_SECONDS = 30.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_NAMES = {"python": ("python", "python3", "py"), "c": ("c", "gcc"), "cpp": ("c++", "cpp", "g++")}


class _NotNow(Exception):
    """The server did not do it this time."""


def endpoint() -> str | None:
    """The server that OPENR1_PISTON names, such as http://host:2000/api/v2."""
    return os.environ.get("OPENR1_PISTON") or None


@dataclass(frozen=True)
class Runtime:
    """A language as the server calls it."""

    language: str
    version: str


def runtimes(url: str) -> dict[str, Runtime]:
    """What the server can run, by every name it knows."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/runtimes", timeout=10) as answer:
            entries = json.loads(answer.read())
        found: dict[str, Runtime] = {}
        for entry in entries:
            for name in (entry["language"], *entry.get("aliases", [])):
                found.setdefault(name, Runtime(entry["language"], entry["version"]))
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutsideError(f"the Piston server at {url} does not list its runtimes: {error}") from error


class PistonRunner:
    """Runs jobs one after the other on a server."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.runtimes = runtimes(url)
        self.closed = False

    def run(self, job: Job) -> list[Outcome]:
        """Outcomes in the order of the tests, up to where `stop` said so."""
        runtime = self._runtime(job.language)
        outcomes: list[Outcome] = []
        for number, test in enumerate(job.tests):
            outcome = self._test(job, runtime, test)
            outcomes.append(outcome)
            if outcome.status == "compile_error":
                return outcomes + [outcome] * (len(job.tests) - number - 1)
            if job.stop is not None and job.stop(number, outcome):
                break
        return outcomes

    def _runtime(self, language: Language) -> Runtime:
        for name in _NAMES.get(language.name, (language.name,)):
            if name in self.runtimes:
                return self.runtimes[name]
        raise UserError(f"language {language.name}: the Piston server at {self.url} has no runtime for it")

    def _test(self, job: Job, runtime: Runtime, test: Test) -> Outcome:
        try:
            files = [{"name": n, "content": c.decode()} for n, c in {**job.sources, **test.files}.items()]
            stdin = test.stdin.decode()
        except UnicodeDecodeError:
            raise UserError("tier piston takes text: an input or a file is not UTF-8") from None
        limits = job.limits
        body = {
            "language": runtime.language, "version": runtime.version, "files": files, "stdin": stdin,
            "args": list(test.arguments), "run_timeout": round(limits.wall_s * 1000),
            "run_cpu_time": round(limits.cpu_s * 1000), "run_memory_limit": limits.memory_mb * MB,
        }  # fmt: skip
        reason = ""
        for attempt in range(ATTEMPTS):
            if self.closed:
                raise OutsideError("the sandbox was closed while a program ran")
            try:
                return outcome_of(self._post(body, limits.wall_s + SLACK_SECONDS), job)
            except _NotNow as error:
                reason = str(error)
                time.sleep(min(2.0, 0.1 * 2**attempt))
        return Outcome("infra_error", stderr=f"Piston at {self.url}: {reason}".encode())

    def _post(self, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/execute", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                reply = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode("utf-8", "replace").strip()
            if error.code in _AGAIN:
                raise _NotNow(f"HTTP {error.code} {said}") from error
            raise OutsideError(f"the Piston server at {self.url} refuses (HTTP {error.code}): {said}") from error
        except (OSError, ValueError) as error:
            raise _NotNow(str(error)) from error
        if not isinstance(reply, dict) or not isinstance(reply.get("run", reply.get("compile")), dict):
            raise _NotNow(f"an answer that is none: {str(reply)[:200]}")
        return reply

    def pids(self) -> list[int]:
        return []

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


def outcome_of(reply: dict[str, Any], job: Job) -> Outcome:
    """Piston's answer in our words; a status of its own that it calls internal is ours to try again."""
    compiled = reply.get("compile")
    if isinstance(compiled, dict) and (compiled.get("code") not in (0, None) or compiled.get("signal")):
        return Outcome("compile_error", stderr=_bytes(compiled, "stderr") or _bytes(compiled, "output"))
    run = reply.get("run") or {}
    if run.get("status") == "XX":
        raise _NotNow(str(run.get("message") or "internal error"))
    code = run.get("code")
    cpu, wall = ((run.get(name) or 0) / 1000 for name in ("cpu_time", "wall_time"))
    peak = (run.get("memory") or 0) / MB
    stdout = _bytes(run, "stdout")
    return Outcome(
        _status(run, job, stdout), stdout[: job.limits.output_mb * MB], _bytes(run, "stderr")[-STDERR_BYTES:],
        code, cpu, wall, peak,
    )  # fmt: skip


def _status(run: dict[str, Any], job: Job, stdout: bytes) -> Status:
    said = run.get("status")
    if said == "TO":
        return "cpu_timeout" if (run.get("cpu_time") or 0) >= job.limits.cpu_s * 1000 else "wall_timeout"
    if said in ("OL", "EL") or len(stdout) > job.limits.output_mb * MB:
        return "output_limit"
    if (run.get("memory") or 0) >= job.limits.memory_mb * MB:
        return "memory"
    if run.get("code") == 0 and not run.get("signal"):
        return "ok"
    if said is None and run.get("signal") == "SIGKILL":  # older servers say no more when time is over
        return "wall_timeout"
    return "error"


def _bytes(part: dict[str, Any], name: str) -> bytes:
    value = part.get(name)
    return value.encode("utf-8", "replace") if isinstance(value, str) else b""
