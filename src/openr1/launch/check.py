"""`openr1 check`: what settings and files can tell before anything starts, in seconds and without torch."""

from __future__ import annotations

from typing import Any

from openr1.config.recipe import Recipe
from openr1.engines.settings import OpenAISettings
from openr1.errors import UserError
from openr1.stages.settings import GRPOStage, PromptsStage
from openr1.tasks.local import local_files
from openr1.tasks.settings import LocalSettings
from openr1.train.check import generation_batch
from openr1.train.fields import fields


def check(recipe: Recipe, data: bool = False) -> dict[str, Any]:
    """Lines to print, problems, and what could not be checked from here. Settings are valid already."""
    lines = [f"{recipe.recipe}: {len(recipe.stages)} stages, settings are valid"]
    problems: list[str] = []
    not_checked: list[str] = []
    for name in recipe.order():
        settings = recipe.stages[name]
        lines.append(f"  {name:<20} {settings.kind:<9} {_inputs(settings.inputs)}")
        if isinstance(settings, GRPOStage):
            lines.append(f"  {'':<20} {_batch(settings)}")
        model, engine = getattr(settings, "model", None), getattr(settings, "engine", None)
        if isinstance(engine, OpenAISettings):
            not_checked.append(f"{name}: whether {', '.join(engine.base_url)} answers (openr1 run finds out)")
        elif model is not None and model.source != "scratch":
            not_checked.append(f"{name}: whether {model.source} is there (openr1 run finds out)")
        if isinstance(settings, PromptsStage):
            _check_data(name, settings, data, lines, problems, not_checked)
    lines += [f"not checked: {what}" for what in not_checked]
    return {"recipe": recipe.recipe, "lines": lines, "problems": problems, "not_checked": not_checked}


def _inputs(inputs: dict[str, str]) -> str:
    return ", ".join(f"{name} <- {ref}" for name, ref in inputs.items())


def _batch(settings: GRPOStage) -> str:
    """How many completions a generation asks for, and how many optimizer steps learn from them."""
    train = settings.train
    group, accumulation, iterations = (
        int(train[key] if train.get(key) is not None else fields("grpo")[key]["default"])
        for key in ("num_generations", "gradient_accumulation_steps", "num_iterations")
    )
    size, micro_steps = generation_batch(train)
    steps = micro_steps * iterations / accumulation
    text = f"{size} completions a generation on one process = {size // group} prompts x {group} samples"
    return f"{text}, for {steps:g} optimizer step{'' if steps == 1 else 's'}"


def _check_data(
    name: str, settings: PromptsStage, data: bool, lines: list[str], problems: list[str], not_checked: list[str]
) -> None:
    if not data:
        if isinstance(settings.task, LocalSettings):
            files = [path for path in local_files(settings.task).values() if not path.is_file()]
            problems += [f"stages.{name}.task.path: {path}: no such file" for path in files]
        not_checked.append(f"{name}: the data itself (add --data)")
        return
    from openr1.tasks import build_splits

    try:
        built = build_splits(settings.task, settings.splits, settings.seed)
    except UserError as e:
        problems += [f"stages.{name}: {p}" for p in e.problems]
        return
    sizes = ", ".join(f"{split} {len(rows)}" for split, rows in built.splits.items())
    lines.append(f"  {'':<20} {sizes}; {len(built.dropped)} dropped")
    for dropped in built.dropped[:5]:
        lines.append(f"  {'':<20} dropped: {dropped.reason}: {dropped.example[:80]!r}")
