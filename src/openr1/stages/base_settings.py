"""What the settings of every kind of stage have in common: inputs, resources, seed, and what its name may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from openr1.models.settings import ModelSettings
from openr1.settings import Settings
from openr1.stages.resources import Resources

# what a run or a stage keeps in its folder under names of its own
RESERVED_NAMES = frozenset(
    {
        "manifest", "metrics", "logs", "store", "rollouts", "model", "wandb", "probes", "publish", "report", "run",
        "samples",
    }
)  # fmt: skip


def name_problem(name: object) -> str | None:
    """Why a stage or a split cannot be called so, or None: its name becomes that of a folder or a file."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        return f"{name!r} is no name; use letters, digits, _ and -, the first a letter or a digit"
    if name.lower() in RESERVED_NAMES:
        return f"{name!r} is the name of a file or a folder that a run keeps; choose another"
    return None


@dataclass(frozen=True)
class InputSpec:
    """What an input may be connected to. `growth`: more rows in it only add rows to the output."""

    accepts: frozenset[str]
    required: bool = True
    growth: bool = False


def reads(*accepts: str, required: bool = True, growth: bool = False) -> InputSpec:
    return InputSpec(frozenset(accepts), required, growth)


class StageSettings(Settings):
    """What every stage has."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources"})
    INPUTS: ClassVar[dict[str, InputSpec]] = {}  # by name; `*` is what inputs of any other name may be connected to
    version: ClassVar[int] = 1

    kind: str
    seed: int = Field(ge=0)
    inputs: dict[str, str] = {}
    resources: Resources = Resources()

    def outputs(self) -> dict[str, str]:
        """Name and kind of everything the stage makes."""
        return {}

    def spec(self, name: str) -> InputSpec | None:
        """What the input `name` may be connected to; None where the stage has no such input."""
        return self.INPUTS.get(name, self.INPUTS.get("*"))

    def grows(self, name: str) -> bool:
        """Whether more rows in the input `name` only add rows to the output."""
        spec = self.spec(name)
        return spec is not None and spec.growth

    def off(self, name: str) -> str | None:
        """Why the stage, called `name`, has nothing to do as it is set; None: it has."""
        return None


class NeedsModel(StageSettings):
    """A stage that works with a model: that of its input, or one that it names."""

    model: ModelSettings | None = None
