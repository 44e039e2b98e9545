"""Tracking beside a stage decides nothing: the stage ends as if it were not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from openr1.config import compose_recipe, validate
from openr1.errors import UserError
from openr1.launch import engine
from openr1.launch.plan import Step
from openr1.manifest import load_manifest
from openr1.metrics import SafeTracker, Tracker, read_metrics
from openr1.stages.base import Output, StageContext, StageResult


class Broken:
    """A tracker whose every call raises."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        raise OSError("the server is gone")

    def alert(self, title: str, text: str) -> None:
        raise OSError("the server is gone")

    def describe(self, artifacts: object, tables: object) -> None:
        raise OSError("the server is gone")

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        raise OSError("the server is gone")


def logs_a_step(ctx: StageContext) -> StageResult:
    ctx.metrics.log(1, {"accuracy": 0.5})
    folder = ctx.partial("samples")
    (folder / "rows.json").write_text(json.dumps([1]))
    return StageResult({"samples": Output("samples", 1)}, results={"accuracy": 0.5})


def fails(ctx: StageContext) -> StageResult:
    raise UserError("the stage's own reason")


@pytest.mark.parametrize("logs", [True, False], ids=["log raises", "finish raises"])
def test_a_broken_tracker_does_not_fail_a_stage(logs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(Broken):
        def log(self, step: int, values: Mapping[str, Any]) -> None: ...

    run_with(Broken() if logs else Quiet(), logs_a_step, tmp_path, monkeypatch)
    manifest = load_manifest(tmp_path / "evaluate")
    assert manifest is not None and manifest.status == "done" and manifest.exit == {"code": 0}
    assert [r["accuracy"] for r in read_metrics(tmp_path / "evaluate" / "metrics.jsonl")] == [0.5]


def test_a_failed_stage_keeps_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="own reason"):
        run_with(Broken(), fails, tmp_path, monkeypatch)
    manifest = load_manifest(tmp_path / "evaluate")
    assert manifest is not None and manifest.status == "failed" and "own reason" in manifest.exit["reason"]


def run_with(tracker: Tracker, stage: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = validate({**compose_recipe("tiny_short", []), "run": "r"})
    name = next(n for n, s in recipe.stages.items() if s.kind == "evaluate")
    recipe = recipe.model_copy(update={"stages": {"evaluate": recipe.stages[name]}})
    monkeypatch.setattr(engine, "open_stage_tracker", lambda *a: SafeTracker("r/evaluate", lambda: tracker))
    monkeypatch.setattr(engine, "stage_function", lambda kind: stage)
    monkeypatch.setattr(engine, "input_hashes", lambda *a: dict.fromkeys(recipe.stages["evaluate"].inputs, "0" * 64))
    monkeypatch.setattr(engine, "resolved_inputs", lambda *a: {})
    engine.run_stage(recipe, folder, Step("evaluate", "run", "it is new"))
