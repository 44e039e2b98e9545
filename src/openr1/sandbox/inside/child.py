"""From a fresh fork to a confined program: take the request's files, give up everything else, start."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from . import confine, program

EXEC_FD = 200
HIGHEST_FD = 256


@dataclass
class Place:
    """Where children run and what they are held by."""

    work: str
    namespaces: bool
    ruleset: int = -1
    base_mb: int = 0
    """Address space of the interpreter itself."""


def become(place: Place, request: dict[str, Any], fds: list[int]) -> None:
    """Turn this process into the program; never comes back. `fds`: program, mark, stdin, stdout, stderr, … files."""
    mark = fds[1]
    try:
        start = request["start"]
        started = os.open(request["command"][0], os.O_RDONLY) if start == "command" else fds[0]
        for number, fd in enumerate(fds[2:5]):
            os.dup2(fd, number)
        os.setsid()
        confine.die_with_parent()
        os.chdir(place.work)
        _write_files(request["files"], fds)
        if place.ruleset >= 0:
            confine.landlock_enter(place.ruleset)
        if start != "python":
            started = os.dup2(started, EXEC_FD, inheritable=False)
            os.set_inheritable(mark, False)
        _close_all_but({started, mark})
        _confine(place, request["limits"], start)
        if start == "python":
            program.run_python(started, mark, request["arguments"])
        environment = {"PATH": "/usr/bin:/bin", "HOME": place.work, "TMPDIR": place.work, "LANG": "C.UTF-8"}
        program.start(started, [*request["command"], *request["arguments"]], environment)
    except BaseException as error:  # ours, whatever it is, and said where no program can write
        os.pwrite(mark, program.OURS + repr(error).encode(), 0)
    finally:
        os._exit(127)


def _write_files(names: list[str], fds: list[int]) -> None:
    for name, source in zip(names, fds[len(fds) - len(names) :]):  # noqa: B905  (Python 3.9)
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        size, done = os.fstat(source).st_size, 0
        while done < size:
            done += os.sendfile(target, source, done, size - done)
        os.close(target)


def _close_all_but(keep: set[int]) -> None:
    lowest = 3
    for fd in sorted(keep):
        os.closerange(lowest, fd)
        lowest = fd + 1
    os.closerange(lowest, HIGHEST_FD)


def _confine(place: Place, limits: dict[str, Any], start: str) -> None:
    """In this order: each step still needs what the next one takes away."""
    confine.limit_resources(limits, place.namespaces, place.base_mb if start == "python" else 0)
    if place.namespaces:
        confine.drop_capabilities(bounding=True)
    confine.dumpable(True)  # /dev/stdin is a file of its own /proc
    confine.install_filter(processes=limits["processes"] > 1, start=start != "python", own_namespace=place.namespaces)
