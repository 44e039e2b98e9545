"""Prompts to completions, behind one interface; today through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openr1.engines.base import Engine, Request, collect, make_requests

if TYPE_CHECKING:
    from openr1.engines.settings import EngineSettings

__all__ = ["Engine", "Request", "collect", "make_requests", "open_engine"]


def open_engine(settings: EngineSettings, model_dir: Path) -> Engine:
    """The engine that `settings` names, with the model of a folder; close it when done."""
    from openr1.engines.transformers import TransformersEngine

    return TransformersEngine.load(settings, model_dir)
