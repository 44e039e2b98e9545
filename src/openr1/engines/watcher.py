"""Runs one command and sees to it that nothing of it is left: `watcher.py GRACE VARIABLE COMMAND …`, for `server.py`.

It stands between a stage and a server. Its standard input is a pipe that the stage holds: when the stage ends, however
it ends, the pipe closes (and where a fork of the stage still holds it, the parent changes). Then, or when the
command ends, or on a signal, everything that descends from the command is ended: asked first (the command alone, GRACE
seconds), then killed; its scratch (the folder that VARIABLE of the environment names) and the shared memory that it
left are removed. As a subreaper (Linux) it inherits processes whose parents have died, so that an engine core whose
API server was killed is found, in whatever session it runs.

Only the standard library: it is started with `python -I -S`, in hundredths of a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TICK_S, TRACKERS_S = 0.1, 3.0


def _prctl(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """The processes below `root`, those that have ended and wait to be reaped left out.

    The first thread of a process may have ended before the others; it looks like an ended process then, runs on and
    is still the parent of its children.
    """
    children: dict[int, list[int]] = {}
    ended = set()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # from state on, the third of proc(5)
                if fields[0] in b"ZX" and int(fields[17]) <= 1:
                    ended.add(int(name))
                children.setdefault(int(fields[1]), []).append(int(name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += [pid for pid in below if pid not in ended]
        queue += below
    return found


def _left() -> list[int]:
    """The processes below this one; a second look where there are none, for one that has just changed its parent."""
    return descendants(os.getpid()) or descendants(os.getpid())


def _is_tracker(pid: int) -> bool:
    """Whether it is Python's resource tracker, which frees the shared memory of processes that were killed, and ends
    after them by itself."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"multiprocessing.resource_tracker" in file.read()
    return False


def _segments(root: int) -> set[str]:
    """The named shared memory that the processes below `root` have mapped."""
    found = set()
    for pid in descendants(root):
        with suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            found |= {line.split(maxsplit=5)[5].strip() for line in maps if "/dev/shm/psm_" in line}
    return found


def _reap() -> dict[int, int]:
    """Exit codes of the children that have ended, by process."""
    ended = {}
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended[child[0]] = os.waitstatus_to_exitcode(child[1])
    return ended


def _end_all(command: int, running: bool, grace_s: float) -> None:
    """Ask the command to end, then kill whatever is left below this process."""
    if running:
        with suppress(ProcessLookupError):
            os.kill(command, signal.SIGTERM)
        limit = time.monotonic() + grace_s
        while time.monotonic() < limit and _left():
            _reap()
            time.sleep(TICK_S)
    limit = time.monotonic() + TRACKERS_S
    while left := _left():
        trackers = [pid for pid in left if _is_tracker(pid)] if time.monotonic() < limit else []
        for pid in set(left) - set(trackers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.01)


def main() -> int:
    grace_s, scratch, words = float(sys.argv[1]), os.environ[sys.argv[2]], sys.argv[3:]
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    stage = os.getppid()
    told, tell = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(tell, b"x"))
    me = os.getpid()

    def prepare() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)

    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=prepare)
    except OSError as e:
        print(f"{words[0]}: {e.strerror}", file=sys.stderr)
        return 127
    ended: dict[int, int] = {}
    segments: set[str] = set()
    began = look_at = time.monotonic()
    while process.pid not in ended:
        if (now := time.monotonic()) > look_at:  # a server that ends by itself may leave them behind
            segments |= _segments(me)
            look_at = now + min(30.0, 1.0 + (now - began) / 10)
        ready, _, _ = select.select([0, told], [], [], TICK_S)
        if ready or os.getppid() != stage:
            break
        ended |= _reap()
    segments |= _segments(me)
    _end_all(process.pid, process.pid not in ended, grace_s)
    for segment in segments:
        with suppress(OSError):
            os.unlink(segment)
    ended |= _reap()
    shutil.rmtree(scratch, ignore_errors=True)
    if not os.path.isdir("/proc"):  # not Linux: what has left the command's tree is still of this process group
        os.killpg(0, signal.SIGKILL)
    code = ended.get(process.pid, 0)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
