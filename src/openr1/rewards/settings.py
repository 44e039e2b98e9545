"""Settings of the composed reward, and all that can be wrong with them before a model is loaded."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from openr1.settings import Settings


class PartSettings(Settings):
    """One part of the reward. `gate`: the other parts count only in rows where this one is above 0."""

    weight: float = 1.0
    function: str | None = None
    """A registered name or `module:function`; the part's own label by default."""
    params: dict[str, Any] = Field(default_factory=dict)
    gate: bool = False


class RewardSettings(Settings):
    """The parts by label; the total is their weighted sum."""

    parts: dict[str, PartSettings] = Field(default_factory=lambda: {"accuracy": PartSettings()})


def problems(settings: RewardSettings) -> list[str]:
    """Everything wrong with the settings, one line each, without running a reward."""
    from openr1.rewards.registry import parameter_problems

    if not settings.parts:
        return ["reward: no parts; name at least one, e.g. parts: {accuracy: {weight: 1.0}}"]
    found = []
    for label, part in settings.parts.items():
        if not math.isfinite(part.weight):
            found.append(f"reward part {label!r}: the weight is {part.weight}; it must be a finite number")
        name = part.function or label
        found += [f"reward part {label!r}: {line}" for line in parameter_problems(name, part.params)]
    if not found and all(part.weight == 0 for part in settings.parts.values()):
        found.append("reward: every weight is 0, so nothing can be learned")
    return found
