"""Guards: numbers of every step against bounds of the recipe; they warn first, and stop where they are told to.

What a guard has seen is a function of the metric log, so a resumed stage reads that again and goes on as if it had
never ended. Rank 0 judges: the numbers are those of all ranks.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openr1.errors import UserError
from openr1.train.settings import Guard, SFTGuardSettings

logger = logging.getLogger("openr1")

WINDOW = 50  # steps that a running median looks back on
LEAST = 5  # steps that it needs
REPEAT = 50  # steps between two warnings of one guard

# name -> (what is said of it, what to do)
SAYS: dict[str, tuple[str, str]] = {
    "non_finite": (
        "of loss and gradient norm that are NaN or infinite",
        "lower train.learning_rate, set train.max_grad_norm, or train in bf16 or float32",
    ),
    "logprob_gap": (
        "mean distance of the trainer's and vLLM's log-probabilities (nats)",
        "give both the same dtype and attention, and see that the weights reach vLLM at every step",
    ),
    "logprob_tail": (
        "largest distance of the trainer's and vLLM's log-probabilities of a token (nats)",
        "lower train.vllm_importance_sampling_clip_max, and give both the same dtype and attention",
    ),
    "zero_variance": (
        "of the groups have equal rewards, which teach nothing",
        "choose prompts by pass rate, or raise train.num_generations or train.temperature",
    ),
    "constant_reward": (
        "standard deviation of the reward over the whole batch",
        "read the rollouts: the reward cannot tell them apart",
    ),
    "truncation": (
        "of the completions were cut at the token limit",
        "raise train.max_completion_length, or start from a model that ends its answers",
    ),
    "entropy": (
        "mean entropy of a token (nats): the policy hardly samples any more",
        "lower train.learning_rate, raise train.temperature or train.beta, or go back to an earlier checkpoint",
    ),
    "entropy_drop": (
        "of its median is left of the entropy",
        "lower train.learning_rate, or raise train.temperature or train.beta",
    ),
    "length_growth": (
        "times their median length have the completions",
        "read the rollouts for repetition; the rewards repetition and soft_overlong are made for it",
    ),
}


class _Median:
    """A value against the median of those before it; None until there are enough."""

    def __init__(self) -> None:
        self.seen: deque[float] = deque(maxlen=WINDOW)

    def ratio(self, value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        middle = statistics.median(self.seen) if len(self.seen) >= LEAST else 0.0
        self.seen.append(value)
        return value / middle if middle > 0 else None


@dataclass
class _Seen:
    """What one guard has seen. `row`: steps in a row that reached `warn`, and `stop`."""

    measured: int = 0
    warned: int = 0
    first_step: int | None = None
    worst: float | None = None
    row: list[int] = field(default_factory=lambda: [0, 0])
    said: int | None = None


class Guards:
    """The guards of one stage; `before` are the metrics of the steps that are done. `alert` tells whoever watches."""

    def __init__(
        self,
        settings: SFTGuardSettings,
        before: Iterable[Mapping[str, Any]] = (),
        alert: Callable[[str, str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.alert = alert
        self.medians = {"entropy_drop": _Median(), "length_growth": _Median()}
        self.seen = {name: _Seen() for name in type(settings).model_fields}
        for row in before:
            self._judge(row["step"], row)

    def look(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Judge one step by its metrics. Raises UserError where a guard is told to stop."""
        warnings, stops = self._judge(step, metrics)
        for name, value in warnings:
            seen = self.seen[name]
            if seen.said is None or step - seen.said >= REPEAT:
                seen.said = step
                sentence = self._sentence(name, value, self._of(name).warn)
                logger.warning("step %d: guard %s: %s", step, name, sentence)
                if self.alert is not None:
                    self.alert(f"guard {name}", f"step {step}: {sentence}. {SAYS[name][1].capitalize()}")
        if stops:
            raise UserError(*(self._stop_line(step, name, value) for name, value in stops))

    def _of(self, name: str) -> Guard:
        guard: Guard = getattr(self.settings, name)
        return guard

    def _sentence(self, name: str, value: float, bound: float | None) -> str:
        return f"{value:.4g} {SAYS[name][0]}; the bound is {bound:g}"

    def _stop_line(self, step: int, name: str, value: float) -> str:
        guard = self._of(name)
        steps, advice = f" for {guard.patience} steps" if guard.patience > 1 else "", SAYS[name][1]
        return (
            f"guard {name} stopped training at step {step}: {self._sentence(name, value, guard.stop)}{steps}. "
            f"{advice[0].upper()}{advice[1:]}; with guards.{name}.stop=null the same command goes on from the last "
            "checkpoint"
        )

    def _judge(
        self, step: int, metrics: Mapping[str, float | None]
    ) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        """(guards to warn of, guards to stop for), each with its value."""
        values = {name: measure(metrics) for name, measure in MEASURES.items() if name in self.seen}
        values |= {
            name: median.ratio(metrics.get(MEDIAN_OF[name]))
            for name, median in self.medians.items()
            if name in self.seen
        }
        warnings, stops = [], []
        for name, seen in self.seen.items():
            value = values[name]
            if value is None or not math.isfinite(value):
                continue
            guard, low = self._of(name), name in self.settings.LOW
            seen.measured += 1
            seen.worst = value if seen.worst is None else (min if low else max)(seen.worst, value)
            for place, bound in enumerate((guard.warn, guard.stop)):
                out = bound is not None and (value <= bound if low else value >= bound)
                seen.row[place] = seen.row[place] + 1 if out else 0
            if seen.row[0] >= guard.patience:
                seen.warned += 1
                seen.first_step = step if seen.first_step is None else seen.first_step
                warnings.append((name, value))
            if seen.row[1] >= guard.patience:
                stops.append((name, value))
        return warnings, stops

    def results(self) -> dict[str, dict[str, Any]]:
        """For the manifest: guard -> steps `measured` and `warned` of, the first of them, the worst value."""
        return {
            name: {"warned": s.warned, "first_step": s.first_step, "worst": s.worst, "measured": s.measured}
            for name, s in self.seen.items()
        }


def _metric(name: str) -> Callable[[Mapping[str, float | None]], float | None]:
    return lambda metrics: metrics.get(name)


def _non_finite(metrics: Mapping[str, float | None]) -> float | None:
    """How many of loss and gradient norm are not finite; the metric log keeps such a value as null."""
    there = [metrics[name] for name in ("loss", "grad_norm") if name in metrics]
    return float(sum(v is None or not math.isfinite(v) for v in there)) if there else None


MEASURES: dict[str, Callable[[Mapping[str, float | None]], float | None]] = {
    "non_finite": _non_finite,
    "logprob_gap": _metric("logprob_gap"),
    "logprob_tail": _metric("logprob_tail"),
    "zero_variance": _metric("zero_variance_groups"),
    "constant_reward": _metric("reward_spread"),
    "truncation": _metric("truncated"),
    "entropy": _metric("entropy"),
}
MEDIAN_OF = {"entropy_drop": "entropy", "length_growth": "completion_tokens"}
