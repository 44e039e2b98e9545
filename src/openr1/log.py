"""One logger and one progress bar. Everything for people goes to stderr; stdout belongs to results."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("openr1")

STAGE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def setup_logging(level: int = logging.INFO) -> None:
    """Send our own messages to stderr, plainly; libraries' warnings go to the stage's log file only."""
    logger.setLevel(level)
    logger.propagate = True
    if not any(getattr(h, "openr1", False) for h in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.openr1 = True  # type: ignore[attr-defined]
        logger.addHandler(handler)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copy every log record of the process, ours and the libraries', into `path` while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(STAGE_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class Progress:
    """A progress bar on a terminal; elsewhere a line every `every` seconds, so that job logs stay readable."""

    def __init__(self, title: str, total: int, every: float = 15.0) -> None:
        self.title, self.total, self.every = title, total, every
        self.done = 0
        self.started = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more are done; `note` is a few words beside the bar (a loss, a rate)."""
        self.update(self.done + n, note)

    def update(self, done: int, note: str = "") -> None:
        """`done` of the total are done."""
        self.done = done
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif now - self._said >= self.every:
            self._said = now
            rate = done / max(now - self.started, 1e-9)
            left = (self.total - done) / rate if rate > 0 else float("inf")
            logger.info("%s %d/%d  %s  about %.0f s left", self.title, done, self.total, note, left)
