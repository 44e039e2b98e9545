"""A watchdog: training in which nothing ends for too long leaves the stacks of all threads, and ends.

Every rank has one. A stall in one rank stalls all, so each writes its stacks, waits for the others to do so, and ends:
by an exception in the main thread where that still runs Python, else by leaving the process.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from openr1.errors import OutsideError

logger = logging.getLogger("openr1")

SETTLE = 5.0  # seconds in which the other ranks notice as well, and write their stacks
GRACE = 10.0  # seconds that the main thread has to end by itself


class _Stalled(BaseException):
    """Raised in the main thread; no `except Exception` of a reward's holds it up."""


class Watchdog:
    """Ends training after `minutes` without a `beat`; None never does. Stacks go to `folder`/stacks-rank-R.log."""

    def __init__(self, minutes: float | None, folder: Path, rank: int = 0, size: int = 1) -> None:
        self.minutes, self.rank, self.size = minutes, rank, size
        self.path = folder / f"stacks-rank-{rank}.log"
        self._last = time.monotonic()
        self._done, self._ending = threading.Event(), threading.Lock()

    def beat(self) -> None:
        """Something has ended: a micro-batch, a step, a checkpoint."""
        self._last = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the block. Raises OutsideError where it stalled."""
        if self.minutes is None:
            yield
            return
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGUSR2, _raise_stalled) if main else None
        thread = threading.Thread(target=self._watch, args=(main,), name="watchdog", daemon=True)
        self.beat()
        thread.start()
        try:
            yield
        except _Stalled:
            raise OutsideError(self.message) from None
        finally:
            with self._ending:
                self._done.set()
            if main:
                signal.signal(signal.SIGUSR2, before or signal.SIG_DFL)

    @property
    def message(self) -> str:
        who = f"rank {self.rank}: " if self.size > 1 else ""
        return (
            f"{who}no micro-batch ended in {self.minutes:g} minutes; the stacks of all threads are in {self.path}; "
            "the same command goes on from the last checkpoint, watchdog_minutes gives it longer"
        )

    def _watch(self, polite: bool) -> None:
        assert self.minutes is not None
        while (left := self._last + 60 * self.minutes - time.monotonic()) > 0:
            if self._done.wait(left):
                return
        self._write_stacks()
        if self.size > 1:
            time.sleep(SETTLE)
        logging.getLogger().error("%s", self.message)
        with self._ending:
            if self._done.is_set():
                return
            if polite:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        if polite and self._done.wait(GRACE):
            return
        logger.error("%s", self.message)
        os._exit(OutsideError.exit_code)

    def _write_stacks(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(f"{time.strftime('%F %T')} {self.message}\n\n")
            f.flush()
            faulthandler.dump_traceback(f, all_threads=True)


def _raise_stalled(number: int, frame: FrameType | None) -> None:
    raise _Stalled
