"""What a stage needs of an experiment tracker, and the guard that keeps a tracker from ever stopping a stage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from openr1.records import stable_hash
from openr1.settings import Settings

logger = logging.getLogger("openr1")


class TrackSettings(Settings):
    """Where metrics go beside the local log. `mode`: off, offline (W&B files in the run folder) or online.

    `completions`: how many completions of a stage its table on W&B holds at most; 0 is no table.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"mode", "project", "entity", "completions"})

    mode: Literal["off", "offline", "online"]
    project: str
    entity: str | None = None
    completions: Annotated[int, Field(ge=0, le=10_000)] = 64


@dataclass(frozen=True)
class TrackedArtifact:
    """Something that a stage read (`used`) or made: what it is, and a reference to it; no content is sent.

    `reference` is `openr1://sha256/HASH` or `hf://[datasets/]ID@REVISION`: equal references are one version.
    """

    name: str
    type: Literal["dataset", "model", "evaluation"]
    reference: str
    used: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackedTable:
    """Rows to read beside the curves."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Tracker(Protocol):
    """What a stage needs of an experiment tracker."""

    def log(self, step: int, values: Mapping[str, Any]) -> None: ...

    def alert(self, title: str, text: str) -> None: ...

    def describe(self, artifacts: Sequence[TrackedArtifact], tables: Sequence[TrackedTable]) -> None: ...

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None: ...


def tracking_id(run: str, stage: str, key: str) -> str:
    """The tracker's id of a stage: the same across resumes and requeues, another once the stage's key changes."""
    return stable_hash(run, stage, key, length=12)


class SafeTracker:
    """A tracker that cannot stop a stage: the first failure switches it off, with one warning.

    `open_it` makes the tracker; `name` is what the warning calls it.
    """

    def __init__(self, name: str, open_it: Callable[[], Tracker]) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        self._guarded("start", lambda: setattr(self, "_tracker", open_it()))

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        if (tracker := self._tracker) is not None:
            self._guarded("log", lambda: tracker.log(step, values))

    def alert(self, title: str, text: str) -> None:
        if (tracker := self._tracker) is not None:
            self._guarded("alert", lambda: tracker.alert(title, text))

    def describe(self, artifacts: Sequence[TrackedArtifact], tables: Sequence[TrackedTable]) -> None:
        if (tracker := self._tracker) is not None:
            self._guarded("describe", lambda: tracker.describe(artifacts, tables))

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        if (tracker := self._tracker) is not None:
            self._guarded("finish", lambda: tracker.finish(ok, summary))
        self._tracker = None

    def _guarded(self, what: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as e:  # whatever it is, the numbers are in metrics.jsonl and the stage goes on
            command = getattr(self._tracker, "sync_command", None)
            later = f"; send what it has with: {command}" if command else ""
            logger.warning("tracking %s: %s failed (%s); switched off%s", self._name, what, first_line(e), later)
            self._tracker = None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def open_tracker(
    settings: TrackSettings,
    folder: Path,
    run: str,
    stage: str,
    key: str,
    config: Mapping[str, Any],
    sync_command: str | None = None,
) -> Tracker | None:
    """The tracker of a stage, or None where tracking is off. None of its calls raises.

    `sync_command` is what sends the stage's local log to the server later.
    """
    if settings.mode == "off":
        return None
    from openr1.metrics.wandb_run import WandbTracker

    return SafeTracker(f"{run}/{stage}", lambda: WandbTracker(settings, folder, run, stage, key, config, sync_command))
