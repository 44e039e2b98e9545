"""The grading worker: a process that has imported the symbolic engine once and forks a child that answers requests.

Started as `python -I -c …` by `openr1.verify.pool`, never by multiprocessing, so a caller needs no `__main__` guard.
The first process only waits. Its child reads length-prefixed JSON from standard input, decides, answers. A child that
runs out of CPU time is ended by the kernel (ITIMER_PROF, default action), also inside one long C call, and the next
child is forked in milliseconds without importing anything again. When the caller dies, standard input ends and so do
both.

What is covered: CPU time, address space, growth, crashes. What is not: this is no sandbox for untrusted *programs*;
answers are parsed by our own parser, and the symbolic engine is only given what that parser or a whitelist accepts.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import struct
import sys
import time
from typing import Any

RECYCLE = 3
PRELOAD = 4
MAX_REQUESTS = 2000
MAX_GROWTH_KB = 200 * 1024
_HEADER = struct.Struct(">I")


def read_exact(fd: int, size: int) -> bytes:
    """Exactly `size` bytes from a descriptor, or b"" at its end."""
    chunks = b""
    while len(chunks) < size:
        chunk = os.read(fd, size - len(chunks))
        if not chunk:
            return b""
        chunks += chunk
    return chunks


def read_frame(fd: int) -> dict[str, Any] | None:
    """The next message, or None at the end of the stream. Nothing beyond it is consumed."""
    header = read_exact(fd, _HEADER.size)
    if not header:
        return None
    body = read_exact(fd, _HEADER.unpack(header)[0])
    return json.loads(body) if body else None


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes; ASCII JSON carries lone surrogates and NUL unharmed."""
    body = json.dumps(message).encode("ascii")
    return _HEADER.pack(len(body)) + body


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from openr1.verify.base import get_verifier

    if request.get("fresh"):
        from openr1.verify.mathematics import forget_readings

        forget_readings()
    try:
        verifier = get_verifier(request["verifier"])
        decision = verifier.decide_slow(request["answer"], request["gold"], request["info"])
        return {"status": decision.status, "decided_by": decision.decided_by, "detail": decision.detail}
    except (MemoryError, RecursionError) as error:
        return {"status": "error", "decided_by": "limit", "detail": type(error).__name__, "recycle": True}
    except Exception as error:  # reported to the caller as infra_error, which masks the row and is logged there
        return {"status": "infra_error", "decided_by": "worker", "detail": f"{type(error).__name__}: {error}"[:500]}


def _rss_kb() -> int:
    with open("/proc/self/statm", "rb") as handle:
        return int(handle.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)


def _serve(out: int, handover: int, cpu_seconds: float, memory_bytes: int, request: dict[str, Any] | None) -> None:
    """Answer requests until the input ends or it is time for a fresh child; `request` is one to begin with."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start = _rss_kb()
    for _ in range(MAX_REQUESTS):
        request = request or read_frame(0)
        if request is None:
            os._exit(0)
        if request.get("preload", "sys") not in sys.modules:  # the first process imports it, for all later children
            write_all(handover, pack(request))
            os._exit(PRELOAD)
        signal.setitimer(signal.ITIMER_PROF, float(request.get("cpu") or cpu_seconds))
        began = time.perf_counter()
        reply = _answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        reply["ms"] = round((time.perf_counter() - began) * 1000, 3)
        recycle = reply.pop("recycle", False) or _rss_kb() - start > MAX_GROWTH_KB
        write_all(out, pack(reply))
        request = None
        if recycle:
            break
    os._exit(RECYCLE)


def main(cpu_seconds: float, memory_bytes: int) -> None:
    """Serve until standard input ends. `cpu_seconds` and `memory_bytes` bound each request and each child."""
    out = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setrecursionlimit(3000)
    import openr1.verify.symbolic  # noqa: F401  (preloaded once, shared by every child)

    write_all(out, pack({"ready": os.getpid()}))
    request: dict[str, Any] | None = None
    while True:
        handed, handover = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(handed)
            _serve(out, handover, cpu_seconds, memory_bytes, request)
        os.close(handover)
        request = read_frame(handed)  # None when the child ends without handing one over
        os.close(handed)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return
        if code == PRELOAD and request is not None:
            importlib.import_module(request["preload"])
        elif code != RECYCLE:
            write_all(out, pack({"died": code}))
