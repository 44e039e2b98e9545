"""Locks on files, held by the kernel for a process: however it ends, none is left.

On a file system that several machines share it must offer flock across them (NFSv4, Lustre with `-o flock`, GPFS).
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path

from openr1.errors import UserError


class FileLock:
    """A lock on a file, released by the kernel when its holder ends. `shared`: any number of holders, as long as
    nobody has it for himself. `patience`: seconds to wait for it; by default only as long as a mere look lasts."""

    PATIENCE, PAUSE = 0.2, 0.05  # somebody who only asks `is_locked` holds it for an instant
    _held: weakref.WeakSet[FileLock] = weakref.WeakSet()

    def __init__(self, path: Path, what: str, shared: bool = False, patience: float = PATIENCE) -> None:
        self.path, self.what, self.shared, self.patience = path, what, shared, patience
        self._fd: int | None = None

    def acquire(self) -> FileLock:
        """Take the lock, or say who holds it. Raises UserError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        if not self._try(fd):
            holder = os.read(fd, 200).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise UserError(f"{self.what} is in use by {holder}; wait for it to end, or stop it")
        if not self.shared:
            os.ftruncate(fd, 0)
            os.write(fd, f"process {os.getpid()} on {os.uname().nodename}".encode())
        self._fd = fd
        self._held.add(self)
        return self

    def _try(self, fd: int) -> bool:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(fd, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(self.PAUSE)

    def release(self) -> None:
        self._held.discard(self)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @classmethod
    def _after_fork(cls) -> None:
        """A forked child (a worker pool's) must not keep the lock of a parent that is killed."""
        for lock in list(cls._held):
            lock.release()

    def __enter__(self) -> FileLock:
        return self.acquire() if self._fd is None else self

    def __exit__(self, *_: object) -> None:
        self.release()


os.register_at_fork(after_in_child=FileLock._after_fork)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file for itself."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def holder_of(path: Path) -> str:
    """Who took the lock file last, in words."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"
