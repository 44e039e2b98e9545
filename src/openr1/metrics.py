"""The local metric log, the vocabulary of metric names, and the tracker interface with W&B behind it.

`metrics.jsonl` is the truth: one line a step, appended; a resumed stage cuts off what lies beyond the step it resumes
from, so every step is there once. W&B runs beside it, offline until configured, and can never stop a stage.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from openr1.manifest import write_atomic
from openr1.records import stable_hash
from openr1.settings import Settings

logger = logging.getLogger("openr1")

# name -> what it is; a trailing * matches one reward part's name
VOCABULARY: dict[str, str] = {
    "step": "optimizer step, from 1",
    "epoch": "passes over the training data",
    "loss": "training loss",
    "learning_rate": "learning rate at this step",
    "grad_norm": "gradient norm before clipping",
    "entropy": "mean token entropy of the policy (nats)",
    "clip_ratio": "share of tokens whose probability ratio was clipped",
    "kl": "mean KL to the reference model",
    "reward": "mean composed reward of the batch",
    "reward_std": "mean standard deviation of the reward within a group",
    "reward/*": "mean of one part of the reward over the rows where it is defined",
    "masked": "share of rows whose reward is masked (a failure of ours)",
    "zero_variance_groups": "share of groups whose rewards are all equal",
    "completion_tokens": "mean length of a completion (tokens)",
    "truncated": "share of completions cut at the token limit",
    "reflection": "share of completions that hold a word of reflection (reflection_words)",
    "accuracy": "greedy accuracy on the development set",
    "tokens": "tokens seen so far, generated ones included",
    "seconds/generate": "seconds of this step spent generating",
    "seconds/grade": "seconds of this step spent grading",
    "seconds/train": "seconds of this step spent on everything else",
    "seconds/step": "seconds of this step",
}


def known_metric(name: str) -> bool:
    """Whether `name` is in the vocabulary."""
    return name in VOCABULARY or f"{name.split('/')[0]}/*" in VOCABULARY


class MetricLog:
    """Append-only `metrics.jsonl` of one stage."""

    def __init__(self, path: Path, tracker: Tracker | None = None) -> None:
        self.path, self.tracker = path, tracker
        path.parent.mkdir(parents=True, exist_ok=True)
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """A killed writer can leave half a line; what is appended to it would be lost with it."""
        with suppress(FileNotFoundError), open(self.path, "r+b") as f:
            data = f.read()
            f.truncate(data.rfind(b"\n") + 1)

    def resume_from(self, step: int) -> None:
        """Forget lines after `step` and a torn last line: they will be written again."""
        if self.path.exists():
            kept = [row for row in read_metrics(self.path) if row["step"] <= step]
            write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line for `step`; a value that is not finite is written as null, and counted by the guards."""
        row = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row | {"time": round(time.time(), 3)}) + "\n")
        if self.tracker is not None:
            self.tracker.log(step, row)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metric log, the last one of each step, in step order; a torn last line is left out."""
    rows: dict[int, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                rows[row["step"]] = rows.get(row["step"], {}) | row
    return [rows[s] for s in sorted(rows)]


# --------------------------------------------------------------------------------------------------------- trackers
class TrackSettings(Settings):
    """Where metrics go beside the local log. `mode`: off, offline (W&B files in the run folder) or online."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"mode", "project", "entity"})

    mode: Literal["off", "offline", "online"]
    project: str
    entity: str | None = None


class Tracker(Protocol):
    """What a stage needs of an experiment tracker."""

    def log(self, step: int, values: Mapping[str, Any]) -> None: ...

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None: ...


def tracking_id(run: str, stage: str, key: str) -> str:
    """The tracker's id of a stage: the same across resumes and requeues, another once the stage's key changes."""
    return stable_hash(run, stage, key, length=12)


class WandbTracker:
    """A W&B run: group = pipeline run, job_type = stage. Init and finish are bounded; failures never stop a stage."""

    def __init__(
        self, settings: TrackSettings, folder: Path, run: str, stage: str, key: str, config: Mapping[str, Any]
    ) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        folder.mkdir(parents=True, exist_ok=True)
        bounds = wandb.Settings(init_timeout=20, finish_timeout=60, silent=True, console="off", x_disable_stats=True)
        arguments: dict[str, Any] = {
            "project": settings.project,
            "entity": settings.entity,
            "group": run,
            "job_type": stage,
            "name": f"{run}/{stage}",
            "id": tracking_id(run, stage, key),
            "resume": "allow",
            "config": dict(config),
            "dir": str(folder),
            "settings": bounds,
        }
        try:
            self._run = wandb.init(mode="online" if settings.mode == "online" else "offline", **arguments)
        except wandb.errors.Error as e:
            logger.warning("W&B does not answer (%s); tracking %s/%s offline", e, run, stage)
            self._run = wandb.init(mode="offline", **arguments)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({k: v for k, v in values.items() if v is not None and k != "time"} | {"step": step})

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        if summary:
            self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if ok else 1)


def open_tracker(
    settings: TrackSettings, folder: Path, run: str, stage: str, key: str, config: Mapping[str, Any]
) -> Tracker | None:
    """The tracker of a stage, or None where tracking is off."""
    if settings.mode == "off":
        return None
    return WandbTracker(settings, folder, run, stage, key, config)
