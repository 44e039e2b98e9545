"""The curves of one training stage: which metrics share a panel, and how each is scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openr1.report.charts import Series, line_chart
from openr1.report.document import Figure, Panels
from openr1.report.load import Stage
from openr1.report.numbers import finite
from openr1.report.tables import metrics_table


@dataclass(frozen=True)
class Panel:
    """Metrics drawn together; a name ending in `/` takes every metric below it."""

    title: str
    names: Sequence[str]
    share: bool = False
    zero: bool = False


PANELS = (
    Panel("Reward and its parts", ("reward", "reward/")),
    Panel("Accuracy on development prompts", ("accuracy",), share=True),
    Panel("Completion length (tokens)", ("completion_tokens",), zero=True),
    Panel("Zero-variance, truncated, masked", ("zero_variance_groups", "truncated", "masked"), share=True),
    Panel("Entropy (nats a token)", ("entropy",), zero=True),
    Panel("Reward spread within a group", ("reward_std",), zero=True),
    Panel("Loss", ("loss",)),
    Panel("Gradient norm", ("grad_norm",), zero=True),
    Panel("Learning rate", ("learning_rate",), zero=True),
    Panel("KL to the reference", ("kl",)),
    Panel("Seconds a step", ("seconds/generate", "seconds/grade", "seconds/train"), zero=True),
)
LEFT_OUT = frozenset({"step", "epoch", "time", "tokens", "seconds/step"})
LABELS = {
    "zero_variance_groups": "zero-variance", "seconds/generate": "generate", "seconds/grade": "grade",
    "seconds/train": "train",
}  # fmt: skip


def panels_of(stage: Stage) -> Panels | None:
    """A panel for every group of metrics that the stage logged, the unforeseen ones included; None without any."""
    figures = [f for f in _figures(stage) if f is not None]
    return Panels(figures, metrics_table(stage)) if figures else None


def _figures(stage: Stage) -> Iterator[Figure | None]:
    logged = list(dict.fromkeys(k for row in stage.metrics for k in row if k not in LEFT_OUT))
    used: set[str] = set()
    for panel in PANELS:
        names = [n for n in logged if any(n == p or p.endswith("/") and n.startswith(p) for p in panel.names)]
        used |= set(names)
        # a line that never leaves zero (no KL term, nothing masked) only takes room
        series = [_series(stage, n) for n in names if not _always_zero(stage, n)]
        yield line_chart(panel.title, series, panel.share, panel.zero)
    for name in logged:
        if name not in used:
            yield line_chart(name.replace("_", " "), [_series(stage, name)])


def _series(stage: Stage, name: str) -> Series:
    rows = [row for row in stage.metrics if name in row]
    label = LABELS.get(name, name.split("/")[-1].replace("_", " "))
    return Series(label, [row["step"] for row in rows], [row[name] for row in rows])


def _always_zero(stage: Stage, name: str) -> bool:
    return all(not finite(row.get(name)) for row in stage.metrics)
