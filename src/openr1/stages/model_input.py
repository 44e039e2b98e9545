"""The model of a stage: another stage's output, or the source that its `model` block names.

`store_identity` is what the completions of one store have in common, for every stage that keeps such a store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openr1.engines.base import Engine
from openr1.engines.settings import OpenAISettings, SamplingSettings
from openr1.errors import UserError
from openr1.stages.base import PARTIAL, StageContext

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class StageModel:
    """Where the model lies, None where only an endpoint has it; and what decides it, as JSON."""

    folder: Path | None
    identity: Any


def stage_model(ctx: StageContext) -> StageModel:
    """The model to start from; a model `from scratch` is initialised with the stage's seed.

    An endpoint needs no weights: for it only the tokenizer is fetched, and nothing where it renders prompts itself.
    Raises UserError where the facts that the recipe states are not those of the model.
    """
    if "model" in ctx.inputs:
        template = getattr(ctx.settings, "chat_template", None)
        found = StageModel(ctx.path("model"), ctx.inputs["model"].hash)
    else:
        settings = ctx.settings.model
        template = settings.chat_template if settings is not None and settings.source != "scratch" else None
        found = _source(ctx)
    if template is None or found.folder is None:
        return found
    from openr1.models.source import with_template

    return StageModel(with_template(found.folder, template, ctx.folder / PARTIAL / "initial"), found.identity)


def _source(ctx: StageContext) -> StageModel:
    """The model that the stage's own block names."""
    settings = ctx.settings.model
    engine = getattr(ctx.settings, "engine", None)
    remote = isinstance(engine, OpenAISettings)
    if settings is None or (isinstance(engine, OpenAISettings) and engine.api == "chat"):
        return StageModel(None, settings and settings.identity())
    from openr1.models.scratch import init_model
    from openr1.models.source import fact_problems, resolve

    if settings.source == "scratch":
        folder = ctx.folder / PARTIAL / "initial"
        init_model(settings, ctx.settings.seed, folder)
        return StageModel(folder, settings.identity())
    found = resolve(settings.source, settings.revision, weights=not remote)
    problems = fact_problems(settings, found)
    if problems:
        raise UserError(*(f"{ctx.name}: {p}" for p in problems))
    return StageModel(found, settings.identity() | _commit(found, settings.revision))


def _commit(folder: Path, revision: str | None) -> dict[str, str]:
    """The commit of a snapshot of the Hub, where the revision that was asked for is a name that may move."""
    moves = folder.parent.name == "snapshots" and not COMMIT.fullmatch(revision or "")
    return {"commit": folder.name} if moves and COMMIT.fullmatch(folder.name) else {}


def model_folder(ctx: StageContext) -> Path:
    """The folder of the model of a stage that trains it."""
    if ctx.model_dir is not None:
        return ctx.model_dir
    found = stage_model(ctx).folder
    assert found is not None
    return found


def store_identity(ctx: StageContext, sampling: SamplingSettings, model: StageModel, engine: Engine) -> dict[str, Any]:
    """What all completions of a store share: model, sampling, template, system prompt, prefill, seed."""
    settings = ctx.settings
    optional = {name: getattr(settings, name, None) for name in ("system_prompt", "chat_template")}
    return {
        "model": model.identity if model.identity is not None else {"served": engine.identity().get("model")},
        "sampling": sampling.identity(),
        "prefill": settings.prefill,
        "seed": settings.seed,
        **{name: value for name, value in optional.items() if value is not None},
    }


def model_name(ctx: StageContext) -> str:
    """The name a report gives to the model: the stage that made it, its source, or what an endpoint calls it."""
    if "model" in ctx.inputs:
        return ctx.inputs["model"].ref.split("/")[0]
    if ctx.settings.model is None:
        return str(ctx.settings.engine.model or "endpoint")
    return str(ctx.settings.model.source)
