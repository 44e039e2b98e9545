"""The curves of one training stage: which metrics share a panel, and how each is scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openr1.report.charts import SERIES, Look, Series, key_of, line_chart
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
    Panel("Completions that reflect", ("reflection",), share=True),
    Panel("Shares: zero-variance groups, truncated", ("zero_variance_groups", "truncated", "masked"), share=True),
    Panel("Entropy (nats a token)", ("entropy",), zero=True),
    Panel("Reward spread within a group", ("reward_std",), zero=True),
    Panel("Loss", ("loss",)),
    Panel("Gradient norm", ("grad_norm",), zero=True),
    Panel("Learning rate", ("learning_rate",), zero=True),
    Panel("KL to the reference", ("kl",)),
    Panel("Clipped tokens", ("clip_ratio",), zero=True),
    Panel("Distance of the trainer's and vLLM's log-probabilities (nats)", ("logprob_gap",), zero=True),
    Panel(
        "Seconds a step",
        ("seconds/generate", "seconds/grade", "seconds/wait", "seconds/sync", "seconds/train"),
        zero=True,
    ),
    Panel("Idle share of a step, MFU", ("speed/idle_share", "speed/mfu"), share=True),
)
# the first of a panel's names that a stage logged is drawn
TOGETHER = (
    Panel("Reward", ("reward",)),
    Panel("Accuracy part of the reward", ("reward/accuracy",), share=True),
    Panel("Completion length (tokens)", ("completion_tokens",), zero=True),
    Panel("Completions that reflect", ("reflection",), share=True),
    Panel("Language part of the reward", ("reward/language_consistency", "reward/language"), share=True),
    Panel("Entropy (nats a token)", ("entropy",), zero=True),
    Panel("Zero-variance groups", ("zero_variance_groups",), share=True),
    Panel("Truncated completions", ("truncated",), share=True),
)
CONTROL = "_control"
# a line of these that never leaves zero says nothing and only takes room
SILENT_AT_ZERO = frozenset({"kl", "masked", "clip_ratio", "reflection"})
LEFT_OUT = frozenset({"step", "epoch", "time", "tokens", "seconds/step"})
LABELS = {
    "zero_variance_groups": "zero-variance", "seconds/generate": "generate", "seconds/grade": "grade",
    "seconds/train": "train",
}  # fmt: skip


def panels_of(stage: Stage) -> Panels | None:
    """A panel for every group of metrics that the stage logged, the unforeseen ones included; None without any."""
    figures = [f for f in _figures(stage) if f is not None]
    return Panels(figures, metrics_table(stage)) if figures else None


def together(stages: Sequence[Stage]) -> Panels | None:
    """One line a stage in each panel of TOGETHER; a control has the colour of what it controls, dotted. None where
    nothing is shared."""
    looks = _looks(stages)
    figures = []
    for panel in TOGETHER:
        series = []
        for stage in stages:
            name = next((n for n in panel.names if any(n in row for row in stage.metrics)), None)
            if name is not None and not (name == "reflection" and _always_zero(stage, name)):
                steps, values = zip(*_values(stage, name), strict=True)
                series.append(Series(stage.name, steps, values, looks[stage.name]))
        figure = line_chart(panel.title, series, panel.share, panel.zero, legend=False)
        if figure is not None:
            figures.append(figure)
    legend = [key_of(name, look) for name, look in looks.items()]
    return Panels(figures, legend=legend) if figures else None


def _looks(stages: Sequence[Stage]) -> dict[str, Look]:
    """A colour for every stage that is not a control, dashes for a second round of colours, dots for controls.

    A control is `NAME_control` of a stage NAME.
    """
    names = [s.name for s in stages]
    leading = [n for n in names if n.removesuffix(CONTROL) == n or n.removesuffix(CONTROL) not in names]
    place = {n: i for i, n in enumerate(leading)}
    looks = {}
    for name in names:
        i = place[name] if name in place else place[name.removesuffix(CONTROL)]
        dash = 2 if name not in place else min(i // len(SERIES), 1)
        looks[name] = Look(i % len(SERIES), dash)
    return looks


def _values(stage: Stage, name: str) -> list[tuple[int, float | None]]:
    return [(row["step"], row[name]) for row in stage.metrics if name in row]


def _figures(stage: Stage) -> Iterator[Figure | None]:
    logged = list(dict.fromkeys(k for row in stage.metrics for k in row if k not in LEFT_OUT))
    used: set[str] = set()
    for panel in PANELS:
        names = [n for n in logged if any(n == p or p.endswith("/") and n.startswith(p) for p in panel.names)]
        used |= set(names)
        series = [_series(stage, n) for n in names if not (n in SILENT_AT_ZERO and _always_zero(stage, n))]
        yield line_chart(panel.title, series, panel.share, panel.zero)
    for name in logged:
        if name not in used:
            yield line_chart(name.replace("_", " "), [_series(stage, name)])


def _series(stage: Stage, name: str) -> Series:
    steps, values = zip(*_values(stage, name), strict=True)
    return Series(LABELS.get(name, name.split("/")[-1].replace("_", " ")), steps, values)


def _always_zero(stage: Stage, name: str) -> bool:
    return all(not finite(row.get(name)) for row in stage.metrics)
