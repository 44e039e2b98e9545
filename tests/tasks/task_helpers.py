"""Short ways to write task settings."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from openr1.records import Prompt
from openr1.tasks import BuiltSplits, build_splits
from openr1.tasks.settings import SplitSettings, TaskSettings

HELD = {"held_out": True}


def task(**settings: Any) -> Any:
    return TypeAdapter(TaskSettings).validate_python(settings)


def build(settings: Any, seed: int = 0, **splits: dict[str, Any]) -> BuiltSplits:
    return build_splits(settings, {name: SplitSettings(**s) for name, s in splits.items()}, seed)


def operands(prompts: list[Prompt]) -> set[tuple[int, ...]]:
    return {tuple(sorted(p.info["operands"])) for p in prompts}
