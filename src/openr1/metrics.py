"""The local metric log, the vocabulary of metric names, and the tracker interface with W&B behind it.

`metrics.jsonl` is the truth: one line a step, appended; a resumed stage cuts off what lies beyond the step it resumes
from, so every step is there once. W&B runs beside it, offline until configured, and can never stop a stage.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import time
from collections.abc import Callable, Mapping
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
    "logprob_gap": "mean distance of the trainer's and vLLM's log-probabilities of a token (nats)",
    "logprob_tail": "largest distance of the trainer's and vLLM's log-probabilities of a token (nats)",
    "ratio_min": "smallest importance ratio of trainer to vLLM, as it is used",
    "ratio_max": "largest importance ratio of trainer to vLLM, as it is used",
    "reward": "mean composed reward of the batch",
    "reward_std": "mean standard deviation of the reward within a group",
    "reward_spread": "standard deviation of the reward over the whole batch",
    "reward/*": "mean of one part of the reward over the rows where it is defined",
    "pass_rate": "mean pass rate, measured by curate, of the prompts of this step (with a curriculum)",
    "masked": "share of rows whose reward is masked (a failure of ours)",
    "zero_variance_groups": "share of groups whose rewards are all equal",
    "completion_tokens": "mean length of a completion (tokens)",
    "truncated": "share of completions cut at the token limit",
    "reflection": "share of completions that hold a word of reflection (reflection_words)",
    "accuracy": "greedy accuracy on the development set",
    "tokens": "tokens seen so far, generated ones included",
    "completions": "completions that are there (the step of a generate stage)",
    "missing": "completions still to come",
    "failed": "completions of this attempt that failed for good",
    "generated_tokens": "tokens generated in this attempt",
    "tokens_per_second": "generated tokens of this attempt over its seconds",
    "eta_seconds": "seconds left at this pace",
    "seconds/generate": "seconds of this step spent generating",
    "seconds/grade": "seconds of this step spent grading",
    "seconds/wait": "seconds of this step in which a rank waited for the others to generate and to grade",
    "seconds/sync": "seconds of this step in which the weights went to vLLM",
    "seconds/train": "seconds of this step spent on everything else",
    "seconds/step": "seconds of this step",
    "speed/trained_tokens_per_second": "tokens of this step that were trained on, over its seconds",
    "speed/rollout_tokens_per_second": "tokens that this step generated, over the seconds of generation",
    "speed/idle_share": "share of the step in which the trainer's processors had nothing to compute",
    "speed/mfu": "model FLOPs of this step over what the GPUs could have done in its seconds (GPUs only)",
}


def of_the_machine(name: str) -> bool:
    """Whether a metric depends on how fast the machine is, so that no two runs agree on it."""
    return name == "time" or name.startswith(("seconds/", "speed/"))


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
INIT_TIMEOUT = 20  # seconds that a stage waits for W&B before it tracks offline


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
            logger.warning("tracking %s: %s failed (%s); switched off%s", self._name, what, _first_line(e), later)
            self._tracker = None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class WandbTracker:
    """A W&B run: group = pipeline run, job_type = stage. Its waits are bounded; without a server it is offline."""

    def __init__(
        self, settings: TrackSettings, folder: Path, run: str, stage: str, key: str, config: Mapping[str, Any]
    ) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        folder.mkdir(parents=True, exist_ok=True)
        bounds = wandb.Settings(
            init_timeout=INIT_TIMEOUT, login_timeout=INIT_TIMEOUT, finish_timeout=60, silent=True, console="off",
            x_disable_stats=True,
        )  # fmt: skip
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
        except Exception as e:  # no answer, no key, no permission: the files can be sent later
            wandb.teardown(exit_code=1)  # its service still holds the run that did not start
            self._run = wandb.init(mode="offline", **arguments)
            text = "W&B cannot be used online (%s); %s/%s is tracked offline, send it with: %s"
            logger.warning(text, _first_line(e), run, stage, self.sync_command)
        self._run.define_metric("*", step_metric="step")

    @property
    def sync_command(self) -> str:
        return f"wandb sync {shlex.quote(self._run.settings.sync_dir)}"

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({k: v for k, v in values.items() if v is not None and k != "time"} | {"step": step})

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        if summary:
            self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if ok else 1)


def open_tracker(
    settings: TrackSettings, folder: Path, run: str, stage: str, key: str, config: Mapping[str, Any]
) -> Tracker | None:
    """The tracker of a stage, or None where tracking is off. None of its calls raises."""
    if settings.mode == "off":
        return None
    return SafeTracker(f"{run}/{stage}", lambda: WandbTracker(settings, folder, run, stage, key, config))
