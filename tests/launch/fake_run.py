"""A run of prompts, generate and verify against the scripted OpenAI server: the stage machinery without a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from openai_server import ScriptedServer

from openr1.records import COMPLETION_SCHEMA, Completion
from openr1.stages.base import GradedRow, verdict_store
from openr1.store import AppendStore

__all__ = ["ScriptedServer", "command", "completions", "manifest", "openr1", "start", "verdicts", "words"]


def words(url: str, prompts: int = 24, k: int = 2) -> list[str]:
    """Recipe tiny_generate with an endpoint in the place of its model."""
    return [
        "recipe=tiny_generate", "run=r", "track.mode=off",
        "~stages.sft", "~stages.curate", "~stages.generate.inputs.model",
        f"stages.generate.engine={{name: openai, base_url: ['{url}'], concurrency: 4}}", f"stages.generate.k={k}",
        f"stages.prompts.splits.problems.size={prompts}", "stages.prompts.splits.train.size=8",
        "stages.prompts.splits.dev.size=8", "stages.verify.workers=1",
    ]  # fmt: skip


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "openr1.cli", *more]


def openr1(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*more), cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    """The same in the background."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*more), cwd=folder, env=environment(), **pipes)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def manifest(folder: Path, place: str) -> dict[str, Any]:
    return json.loads((folder / "runs" / "r" / place / "manifest.json").read_text())


def completions(folder: Path) -> list[Completion]:
    """What is in the store of the run's generate stage, in key order."""
    return AppendStore(folder / "runs/r/generate/store", Completion, COMPLETION_SCHEMA, {}).rows()


def verdicts(folder: Path) -> list[GradedRow]:
    return verdict_store(folder / "runs/r/verify/store", {}).rows()
