"""The model of a stage: another stage's output, or the source that its `model` block names."""

from __future__ import annotations

from pathlib import Path

from openr1.errors import UserError
from openr1.stages.base import PARTIAL, StageContext


def model_folder(ctx: StageContext) -> Path:
    """The folder of the model to start from; a model `from scratch` is initialised with the stage's seed.

    Raises UserError where the facts that the recipe states are not those of the model.
    """
    if "model" in ctx.inputs:
        return ctx.path("model")
    from openr1.models.scratch import init_model
    from openr1.models.source import fact_problems, resolve, with_template

    settings = ctx.settings.model
    folder = ctx.folder / PARTIAL / "initial"
    if settings.source == "scratch":
        init_model(settings, ctx.settings.seed, folder)
        return folder
    found = resolve(settings.source, settings.revision)
    problems = fact_problems(settings, found)
    if problems:
        raise UserError(*(f"{ctx.name}: {p}" for p in problems))
    return with_template(found, settings.chat_template, folder) if settings.chat_template else found


def model_name(ctx: StageContext) -> str:
    """The name a report gives to the model: the stage that made it, or its source."""
    if "model" in ctx.inputs:
        return ctx.inputs["model"].ref.split("/")[0]
    return str(ctx.settings.model.source)
