"""What a process has that works for another one: the pipe to it, an end with it, and words for a failure."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from openr1.errors import OpenR1Error

PR_SET_PDEATHSIG = 1
FULL_BYTES = 1024**2  # libraries report a full disk in words of their own; with less than this left it is the cause


class PipeSink:
    """Sends progress and messages to the parent as JSON lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def send(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def progress(self, title: str, done: int, total: int, note: str) -> None:
        self.send(event="progress", title=title, done=done, total=total, note=note)

    def end(self, title: str) -> None:
        self.send(event="end", title=title)

    def message(self, text: str) -> None:
        self.send(event="message", text=text)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux; elsewhere end of input does)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def hold_save_signal() -> None:
    """SIGUSR1 asks a training stage for a checkpoint; while none trains there is nothing to save, and none to end."""
    signal.signal(signal.SIGUSR1, lambda *_: None)


@contextmanager
def forwarding(send: Callable[[int], None]) -> Iterator[None]:
    """Hand SIGTERM and SIGUSR1 to `send` while the block runs, in the main thread of a process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, lambda n, _: send(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def failure(error: BaseException, stage: str, folder: Path) -> dict[str, Any]:
    """The message for what a stage of the run in `folder` raised; `bug` where it is none that a person can mend."""
    message: dict[str, Any] = {"event": "failed", "stage": stage}
    if isinstance(error, KeyboardInterrupt):
        return message | {"code": 130, "problems": ["interrupted"]}
    if isinstance(error, OpenR1Error):
        return message | {"code": error.exit_code, "problems": getattr(error, "problems", [str(error)])}
    free = shutil.disk_usage(folder).free
    if free < FULL_BYTES:
        what = f"the disk of {folder} is full ({free // 1024} KB left); free some space, the same command goes on"
        return message | {"code": 3, "problems": [what]}
    trace = "".join(traceback.format_exception(error))
    return message | {"code": 1, "problems": [f"{type(error).__name__}: {error}"], "bug": True, "traceback": trace}
