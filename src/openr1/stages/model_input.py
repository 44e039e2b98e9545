"""The model of a stage: another stage's output, or the source that its `model` block names."""

from __future__ import annotations

from pathlib import Path

from openr1.stages.base import PARTIAL, StageContext


def model_folder(ctx: StageContext) -> Path:
    """The folder of the model to start from; a model `from scratch` is initialised with the stage's seed."""
    if "model" in ctx.inputs:
        return ctx.path("model")
    from openr1.models.scratch import init_model
    from openr1.models.source import resolve

    settings = ctx.settings.model
    if settings.source == "scratch":
        folder = ctx.folder / PARTIAL / "initial"
        init_model(settings, ctx.settings.seed, folder)
        return folder
    return resolve(settings.source, settings.revision)


def model_name(ctx: StageContext) -> str:
    """The name a report gives to the model: the stage that made it, or its source."""
    if "model" in ctx.inputs:
        return ctx.inputs["model"].ref.split("/")[0]
    return str(ctx.settings.model.source)
