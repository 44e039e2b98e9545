"""One logger and one progress bar. Everything for people goes to stderr; stdout belongs to results.

A process that works for another one (a stage worker) sends its messages and progress through a `Sink` instead, so that
one terminal shows all of them in order.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger("openr1")

STAGE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Sink(Protocol):
    """Where progress and messages go."""

    def progress(self, title: str, done: int, total: int, note: str) -> None: ...

    def end(self, title: str) -> None: ...

    def message(self, text: str) -> None: ...


class LineSink:
    """Plain lines on stderr: messages at once, progress every `every` seconds, so that job logs stay readable."""

    def __init__(self, every: float = 15.0) -> None:
        self.every = every
        self._began: dict[str, tuple[float, int]] = {}
        self._said: dict[str, float] = {}

    def progress(self, title: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        began, there = self._began.setdefault(title, (now, done))
        if now - self._said.setdefault(title, now) < self.every or done <= there:
            return
        self._said[title] = now
        left = (total - done) * (now - began) / (done - there)
        self.message(f"{title}  {done}/{total}  {note}  about {left:.0f} s left")

    def end(self, title: str) -> None:
        self._began.pop(title, None)
        self._said.pop(title, None)

    def message(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class TerminalSink:
    """Live bars, one for each thing under way, with messages above them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, console=self._console, transient=True)
        self._tasks: dict[str, Any] = {}

    def progress(self, title: str, done: int, total: int, note: str) -> None:
        if not self._tasks:
            self._bars.start()
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=total, note=note)
        self._bars.update(self._tasks[title], completed=done, total=total, note=note)

    def end(self, title: str) -> None:
        task = self._tasks.pop(title, None)
        if task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self._bars.stop()

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)


_sink: Sink = LineSink()


def set_sink(sink: Sink) -> None:
    """Send progress and messages of this process to `sink`."""
    global _sink
    _sink = sink


def current_sink() -> Sink:
    """Where this process's progress and messages go."""
    return _sink


class _SinkHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _sink.message(self.format(record))


def setup_logging(level: int = logging.INFO, sink: Sink | None = None) -> None:
    """Send our own messages to the sink, plainly; other libraries' go to the stage's log file only."""
    if sink is not None:
        set_sink(sink)
    logger.setLevel(level)
    if not any(isinstance(h, _SinkHandler) for h in logger.handlers):
        handler = _SinkHandler(level)
        handler.setFormatter(logging.Formatter("%(message)s"))
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
    """Progress of one piece of work with a known total; `there` of it was done before.

    >>> with Progress("generate", 2) as bar:
    ...     bar.advance()
    """

    def __init__(self, title: str, total: int, there: int = 0) -> None:
        self.title, self.total, self.done = title, total, there

    def __enter__(self) -> Progress:
        _sink.progress(self.title, self.done, self.total, "")
        return self

    def __exit__(self, *_: object) -> None:
        _sink.end(self.title)

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more are done; `note` is a few words beside the bar (a loss, a rate)."""
        self.update(self.done + n, note)

    def update(self, done: int, note: str = "") -> None:
        """`done` of the total are done."""
        self.done = done
        _sink.progress(self.title, done, self.total, note)
