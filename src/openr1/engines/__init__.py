"""Prompts to completions, behind one interface: transformers, vLLM, and any OpenAI-compatible endpoint."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from openr1.engines.base import Engine, Request, collect, make_requests
from openr1.engines.settings import OpenAISettings, TransformersSettings, VLLMSettings

if TYPE_CHECKING:
    from openr1.settings import Settings

__all__ = ["Engine", "Request", "collect", "make_requests", "open_engine"]


def open_engine(settings: Settings, model_dir: Path | None, work: Path | None = None) -> Engine:
    """The engine that `settings` names; close it when done.

    Args:
        model_dir: the folder of the model; only an OpenAI-compatible endpoint does without.
        work: a folder for what the engine leaves behind (server logs); by default none is kept.
    """
    if isinstance(settings, TransformersSettings):
        from openr1.engines.transformers import TransformersEngine

        assert model_dir is not None
        return TransformersEngine.load(settings, model_dir)
    if not isinstance(settings, OpenAISettings | VLLMSettings):
        raise TypeError(f"no engine has settings of type {type(settings).__name__}")
    engine: Engine = import_module(f"openr1.engines.{settings.name}").open_engine(settings, model_dir, work)
    return engine
