"""Stages that make and grade rows, run on real rows: what they count, record and refuse."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from openr1.errors import UserError
from openr1.metrics import MetricLog
from openr1.records import PROMPT_SCHEMA, Completion, Prompt
from openr1.stages import prompts as prompts_stage
from openr1.stages import verify as verify_stage
from openr1.stages.base import Input, StageContext, StageResult, completion_store, verdict_store, write_rows
from openr1.stages.settings import PromptsStage, VerifyStage

PROMPTS = [Prompt("sum", [{"role": "user", "content": f"{n} + 1"}], str(n + 1), "exact") for n in range(4)]


def answers(k: int) -> list[Completion]:
    """`k` answers to every prompt, the first of them right."""
    return [
        Completion(p.prompt_id, i, f"<answer>{p.answer if i == 0 else 'no'}</answer>", "stop", 3, 5, i)
        for i in range(k)
        for p in PROMPTS
    ]


def verify(folder: Path, prompts: list[Prompt], completions: list[Completion]) -> StageResult:
    """Run a verify stage in `folder` as the engine does, over these rows."""
    write_rows(folder / "prompts", prompts, PROMPT_SCHEMA)
    with completion_store(folder / "completions", {}) as store:
        store.append([c for c in completions if c.key not in store])
    inputs = {
        "data": Input("prompts/rl", folder / "prompts", "prompts", ""),
        "completions": Input("generate/store", folder / "completions", "completions", ""),
    }
    settings = VerifyStage(kind="verify", seed=0, workers=1)
    log = MetricLog(folder / "metrics.jsonl")
    return verify_stage.run(StageContext("run", "verify", folder / "verify", settings, inputs, log))


def test_a_file_that_was_read_is_recorded_with_its_hash(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text('{"problem": "What is 1 + 2?", "answer": "3"}\n')
    settings = PromptsStage.model_validate(
        {"kind": "prompts", "seed": 0, "task": {"name": "local", "path": str(data)}, "splits": {"train": {}}}
    )
    context = StageContext("run", "prompts", tmp_path / "prompts", settings, {}, MetricLog(tmp_path / "metrics.jsonl"))
    assert prompts_stage.run(context).results == {
        "sources": {"train": {"file": "mine.jsonl", "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}}
    }


def test_counts_are_over_the_completions_that_are_asked_for(tmp_path: Path) -> None:
    verify(tmp_path, PROMPTS, answers(2))
    found = verify(tmp_path, PROMPTS[:1], answers(2))
    assert found.counts == {"in": 2, "out": 2, "new": 0, "masked": 0}
    assert found.results["by_status"] == {"correct": 1, "wrong": 1}
    assert found.outputs["store"].rows == 8  # nothing is taken out of a store


def test_verdicts_of_two_versions_of_a_verifier_do_not_mix(tmp_path: Path) -> None:
    verify(tmp_path, PROMPTS, answers(1))
    with verdict_store(tmp_path / "verify" / "store", {"stage": "verify", "version": 1}) as store:
        old = [replace(r, version="0") for r in store.rows()]
    for file in (tmp_path / "verify" / "store").glob("part-*"):
        file.unlink()
    with verdict_store(tmp_path / "verify" / "store", {"stage": "verify", "version": 1}) as store:
        store.append(old)
    with pytest.raises(UserError, match=r"^verify: graded by exact 0, installed is exact \S+; rerun=\[verify\]$"):
        verify(tmp_path, PROMPTS, answers(2))
