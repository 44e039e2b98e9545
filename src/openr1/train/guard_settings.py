"""When a training run is out of bounds: what is watched, and from which value on it is said or stopped."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from openr1.settings import Settings


class Guard(Settings):
    """When one number of a step is out of bounds: `warn` says it, `stop` ends the stage; null is never.

    Both count once the number has been there `patience` steps in a row.
    """

    warn: float | None = None
    stop: float | None = None
    patience: int = Field(default=1, ge=1)


class SFTGuardSettings(Settings):
    """What is watched while a model is fine-tuned; a guard that is written in part keeps its other defaults.

    `non_finite`: how many of loss and gradient norm are NaN or infinite, at most 2; out of bounds from 1 on.
    """

    LOW: ClassVar[frozenset[str]] = frozenset()  # guards whose bound is a lower one

    non_finite: Guard = Guard(warn=1)

    @model_validator(mode="before")
    @classmethod
    def _keeps_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        defaults = {name: field.default.model_dump() for name, field in cls.model_fields.items()}
        return {k: defaults.get(k, {}) | v if isinstance(v, dict) else v for k, v in given.items()}

    @model_validator(mode="after")
    def _warns_first(self) -> SFTGuardSettings:
        for name in type(self).model_fields:
            guard: Guard = getattr(self, name)
            if guard.warn is None or guard.stop is None:
                continue
            low = name in self.LOW
            if guard.stop > guard.warn if low else guard.stop < guard.warn:
                raise ValueError(
                    f"{name}: stop {guard.stop:g} comes before warn {guard.warn:g}; a lower bound wants stop <= warn, "
                    "an upper one stop >= warn"
                )
        return self


class GuardSettings(SFTGuardSettings):
    """What is watched while GRPO trains. Each guard is out of bounds at its bound and beyond it.

    Where vLLM draws and TRL's importance sampling correction is on: `logprob_gap`, the mean distance of the trainer's
    and the sampler's log-probabilities of a token (nats), and `logprob_tail`, the largest one of a token: e to that
    power is the farthest ratio. `zero_variance`: share of groups with equal rewards. `constant_reward`: standard
    deviation over the whole batch, a lower bound. `truncation`: share of completions cut at the limit. `entropy`:
    mean entropy of a token (nats), and `entropy_drop`, that over its median of the 50 steps before, lower bounds both.
    `length_growth`: mean length of a completion over its median of the 50 steps before.
    """

    LOW: ClassVar[frozenset[str]] = frozenset({"constant_reward", "entropy", "entropy_drop"})

    logprob_gap: Guard = Guard(warn=0.1, patience=3)
    logprob_tail: Guard = Guard(warn=10.0, patience=3)
    zero_variance: Guard = Guard(warn=0.9, patience=5)
    constant_reward: Guard = Guard(warn=0.0, patience=3)
    truncation: Guard = Guard(warn=0.5, patience=5)
    entropy: Guard = Guard(warn=0.01, patience=3)
    entropy_drop: Guard = Guard(warn=0.2, patience=3)
    length_growth: Guard = Guard(warn=3.0, patience=3)
