"""The local metric log, the vocabulary of metric names, and the tracker interface with W&B behind it.

`metrics.jsonl` is the truth: one line a step, appended; a resumed stage cuts off what lies beyond the step it resumes
from, so every step is there once. W&B runs beside it, offline until configured, and can never stop a stage.
"""

from __future__ import annotations

from openr1.metrics.log import MetricLog, read_metrics
from openr1.metrics.tracker import (
    SafeTracker,
    TrackedArtifact,
    TrackedTable,
    Tracker,
    TrackSettings,
    open_tracker,
    tracking_id,
)
from openr1.metrics.vocabulary import VOCABULARY, known_metric, of_the_machine

__all__ = [
    "VOCABULARY", "MetricLog", "SafeTracker", "TrackSettings", "TrackedArtifact", "TrackedTable", "Tracker",
    "known_metric", "of_the_machine", "open_tracker", "read_metrics", "tracking_id",
]  # fmt: skip
