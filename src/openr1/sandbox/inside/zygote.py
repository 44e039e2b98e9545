"""The first process of a sandbox: trusted, started once, forks a fresh child for every test.

It talks to the host over one socket. A request names limits and hands over open files (program, input, output); the
data itself never passes through this process, so a child, which is a copy of it, finds nothing of other tests. A
reply says how the child ended, as the kernel tells it. Expected outputs are never here.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import importlib
import json
import os
import platform
import resource
import select
import shutil
import signal
import site
import socket
import stat
import sys
import time
from typing import Any

from . import child, confine

PRELOADED = (
    "array", "ast", "atexit", "bisect", "builtins", "cmath", "collections", "collections.abc", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools",
    "json", "linecache", "math", "operator", "random", "re", "statistics", "string", "struct", "threading", "time",
    "traceback", "types", "typing",
)  # fmt: skip
MOST_FDS = 96
MOST_COLLECTED = 64 << 20
FIRST_TO_GO = b"500"  # whom the kernel kills first when the machine's memory ends
LOOK_S = 0.25  # how often the CPU time of several processes is added up
STARVED = 10  # the wall limit is stretched by the time a program waited for a core, at most so often
NO_SUID, NO_DEVICES, NO_EXEC = 2, 4, 8
_COLLECT_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Zygote:
    """Serves one host until the host hangs up."""

    def __init__(self, sock: socket.socket, setup: dict[str, Any]) -> None:
        self.sock = sock
        self.setup = setup
        self.namespaces: bool = setup["namespaces"]
        self.work: str = setup["work"]
        self.place = child.Place(self.work, self.namespaces)
        self.states: dict[str, tuple[int, int, int]] = {}
        self.mounted: dict[str, int] = {}

    # ----------------------------------------------------------------------------------------------------- set-up
    def prepare(self) -> dict[str, Any]:
        """Become what a child may be forked from; what it says is shown by `doctor`."""
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if self.namespaces:
            self._mount_all()
        else:
            confine.die_with_parent()
            confine.adopt_orphans()
            self.place.ruleset = confine.landlock_ruleset(
                self.setup["listable"], self.setup["readable"], self.setup["writable"]
            )
        with open("/proc/self/oom_score_adj", "wb") as f:
            f.write(FIRST_TO_GO)
        confine.dumpable(False)
        self._warm()
        return {"ready": os.getpid(), "python": platform.python_version(), "machine": confine.MACHINE}

    def _mount_all(self) -> None:
        for where, size in self.setup["mounts"].items():
            self._mount(where, size)
        confine.mount(b"proc", b"/proc", b"subset=pid", NO_SUID | NO_DEVICES | NO_EXEC)

    def _mount(self, where: str, size_mb: int) -> None:
        options = f"size={size_mb}m,nr_inodes={1024 + size_mb * 64},mode=1777"
        confine.mount(b"tmpfs", where.encode(), options.encode(), NO_SUID | NO_DEVICES | NO_EXEC)
        self.mounted[where] = size_mb
        self.states[where] = _state(where)

    def _replace(self, where: str, size_mb: int) -> None:
        confine.unmount(where.encode())
        self._mount(where, size_mb)

    def _warm(self) -> None:
        """Import what programs import most, give back what -S left out, keep the garbage collector off it."""
        for name in PRELOADED:
            importlib.import_module(name)
        site.setquit()
        site.setcopyright()
        site.sethelper()
        os.environ.clear()
        os.environ.update(PATH="/usr/bin", HOME=self.work, TMPDIR=self.work, LANG="C.UTF-8")
        sys.path[:] = [self.work, *(path for path in sys.path if path)]
        sys.setswitchinterval(0.005)
        with open("/proc/self/statm") as f:
            self.place.base_mb = int(f.read().split()[0]) * resource.getpagesize() // confine.MB
        gc.collect()
        gc.freeze()

    # ------------------------------------------------------------------------------------------------------ serving
    def serve(self) -> None:
        while True:
            message, fds, _, _ = socket.recv_fds(self.sock, 1 << 18, MOST_FDS)
            if not message:
                return
            request = json.loads(message)
            try:
                reply = self._run(request, fds)
            finally:
                for fd in fds:
                    os.close(fd)
            self.sock.send(json.dumps(reply).encode())

    def _run(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        limits = request["limits"]
        if self.mounted.get(self.work, limits["files_mb"]) != limits["files_mb"]:
            self._replace(self.work, limits["files_mb"])
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child.become(self.place, request, fds)
        killed = self._wait(pid, limits, began)
        code, usage = self._reap(pid)
        reply = {"exit": code, "killed": killed, "wall_s": time.monotonic() - began, **usage}
        if request.get("collect"):
            reply["collected"] = self._collect(request["collect"], fds[request["collect_fd"]])
        reply["clean"] = self._clean()
        return reply

    def _wait(self, pid: int, limits: dict[str, Any], began: float) -> str:
        """Until the child ends or has used up a limit; which limit it was, or ''. A hung-up host ends everything."""
        pidfd = os.pidfd_open(pid)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(self.sock.fileno(), select.POLLHUP)
        several = limits["processes"] > 1
        try:
            while True:
                cpu_left = limits["cpu_s"] - (self._cpu_of_all() if several else _cpu_of(pid))
                wall_left = limits["wall_s"] - (time.monotonic() - began)
                if cpu_left <= 0:
                    return "cpu"
                if wall_left <= 0:
                    wall_left = min(_waited_for_core(self._others()), limits["wall_s"] * STARVED) + wall_left
                    if wall_left <= 0:
                        return "wall"
                ready = poller.poll(1000 * max(0.005, min(cpu_left, wall_left, LOOK_S if several else cpu_left)))
                if any(fd == self.sock.fileno() for fd, _ in ready):
                    os._exit(0)
                if ready:
                    return ""
        finally:
            os.close(pidfd)

    def _cpu_of_all(self) -> float:
        return sum(_cpu_of(pid) for pid in self._others())

    def _others(self) -> list[int]:
        """Every process in here but this one; without a namespace of our own, those that descend from us."""
        if self.namespaces:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
        found: list[int] = []
        unseen = [os.getpid()]
        while unseen:
            below = _children(unseen.pop())
            found += below
            unseen += below
        return found

    def _reap(self, pid: int) -> tuple[int, dict[str, Any]]:
        """Kill what is left, wait for all of it; the child's exit code (negative: a signal) and what all used."""
        code, cpu, peak = -9, 0.0, 0
        while True:
            self._kill_all()
            try:
                ended, status, used = os.wait4(-1, 0)
            except ChildProcessError:
                return code, {"cpu_s": cpu, "peak_mb": peak / 1024}
            cpu += used.ru_utime + used.ru_stime
            peak = max(peak, used.ru_maxrss)
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        for target in [-1] if self.namespaces else self._others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)

    def _collect(self, name: str, target: int) -> bool:
        """Copy the one file that a compiler was asked for; only a plain file, however it is called."""
        try:
            source = os.open(os.path.join(self.work, name), _COLLECT_FLAGS)
        except OSError:
            return False
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_COLLECTED:
                return False
            done = 0
            while done < found.st_size and (sent := os.sendfile(target, source, done, found.st_size - done)):
                done += sent
            return done == found.st_size
        finally:
            os.close(source)

    def _clean(self) -> bool:
        """Nothing that was written stays: a touched file system is replaced by an empty one."""
        for where, size in self.mounted.items():
            if _state(where) != self.states[where]:
                self._replace(where, size)
        if not self.namespaces:
            for entry in os.scandir(self.work):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
        return not os.listdir(self.work)


def _state(where: str) -> tuple[int, int, int]:
    """Changes with every file made or removed below and every change to the folder itself.

    The clock of a file system ticks every few milliseconds, so the time alone would miss a quick one.
    """
    found = os.stat(where)
    return found.st_mode, found.st_ctime_ns, len(os.listdir(where))


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process, all threads; it may have ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(word) for word in f.read().split()]
    except OSError:
        return []  # it has ended


def _waited_for_core(pids: list[int]) -> float:
    """The longest that a thread of these was ready to run and had no core; 0 where the kernel does not count it."""
    longest = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path) as f:
                    longest = max(longest, int(f.read().split()[1]))
            except (OSError, IndexError, ValueError):
                continue  # it has ended
    return longest / 1e9


def main(fd: int, setup: dict[str, Any]) -> None:
    """Serve the host at socket `fd` until it hangs up."""
    sock = socket.socket(fileno=fd)
    zygote = Zygote(sock, setup)
    try:
        hello = zygote.prepare()
    except (OSError, ImportError, ValueError) as error:
        sock.send(json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode())
        return
    sock.send(json.dumps(hello).encode())
    zygote.serve()
