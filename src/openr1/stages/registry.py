"""From a stage's kind to the function that runs it; the module is imported only when the stage runs."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from openr1.stages.base import StageFunction
from openr1.stages.settings import KINDS


def stage_function(kind: str) -> StageFunction:
    """The `run` function of the module `openr1.stages.<kind>`."""
    if kind not in KINDS:
        raise KeyError(kind)
    return cast(StageFunction, import_module(f"openr1.stages.{kind}").run)
