"""Stage `extend_context`: the same weights under a configuration with a longer context."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.manifest import write_json
from openr1.stages.base import Output, StageContext, StageResult
from openr1.stages.model_input import model_folder
from openr1.stages.settings import ExtendContextStage


def run(ctx: StageContext) -> StageResult:
    settings: ExtendContextStage = ctx.settings
    source, out = model_folder(ctx), ctx.partial("model")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    before = config.get("max_position_embeddings")
    new = extended(config, settings.context, settings.rope_theta)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != "config.json":
            _place(file.resolve(), out / file.name)
    write_json(out / "config.json", new)
    _tell_tokenizer(out / "tokenizer_config.json", settings.context)
    return StageResult(
        {"model": Output("model")},
        results={"context": {"before": before, "after": settings.context}, "rope_theta": settings.rope_theta},
    )


def extended(config: dict[str, Any], context: int, rope_theta: float | None) -> dict[str, Any]:
    """A model's config.json with `context` positions and the new base, in whichever of its two places the base stands.

    Raises UserError for a context that is no longer than the model's own, and for a model that has no rotary base.
    """
    own = config.get("max_position_embeddings")
    if isinstance(own, int) and context < own:
        raise UserError(f"context {context} is less than the model's own {own}; leave the stage out, or raise it")
    new = config | {"max_position_embeddings": context}
    if rope_theta is None:
        return new
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict) and "rope_theta" in parameters:
        return new | {"rope_parameters": parameters | {"rope_theta": rope_theta}}
    if "rope_theta" not in config:
        raise UserError("the model's config.json has no rope_theta, so there is no base to change; leave it out")
    return new | {"rope_theta": rope_theta}


def _place(file: Path, target: Path) -> None:
    """The same file under another name where the file system allows it, else a copy."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def _tell_tokenizer(path: Path, context: int) -> None:
    """A tokenizer that warns of long texts has to know the new length; its file is written anew, not changed."""
    if not path.exists():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    longest = found.get("model_max_length")
    if isinstance(longest, int) and longest < context:
        path.unlink()
        write_json(path, found | {"model_max_length": context})
