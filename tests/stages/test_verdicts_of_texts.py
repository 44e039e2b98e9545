"""A verdict belongs to a text: completions made again under the same keys are graded again, failures are masked."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from openr1.metrics import MetricLog
from openr1.records import PROMPT_SCHEMA, Completion, Prompt
from openr1.stages import verify as verify_stage
from openr1.stages.base import GradedRow, Input, StageContext, StageResult, completion_store, verdict_store, write_rows
from openr1.stages.settings import VerifyStage

PROMPTS = [Prompt("sum", [{"role": "user", "content": f"{n} + 1"}], str(n + 1), "exact") for n in range(6)]
SETTINGS = VerifyStage(kind="verify", seed=0, workers=1)


def answers(right: set[int]) -> list[Completion]:
    """One answer to every prompt, those of the prompts numbered `right` correct."""
    return [
        Completion(p.prompt_id, 0, f"<answer>{p.answer if n in right else 'no'}</answer>", "stop", 3, 5, n)
        for n, p in enumerate(PROMPTS)
    ]


def verify(folder: Path, completions: list[Completion]) -> StageResult:
    write_rows(folder / "prompts", PROMPTS, PROMPT_SCHEMA)
    with completion_store(folder / "completions", {}) as store:
        store.append([c for c in completions if c.key not in store])
    inputs = {
        "data": Input("prompts/rl", folder / "prompts", "prompts", ""),
        "completions": Input("generate/store", folder / "completions", "completions", ""),
    }
    log = MetricLog(folder / "metrics.jsonl")
    return verify_stage.run(StageContext("run", "verify", folder / "verify", SETTINGS, inputs, log))


def verdicts(folder: Path) -> dict[str, GradedRow]:
    return {r.prompt_id: r for r in verdict_store(folder / "verify" / "store", {}).rows()}


def test_other_texts_under_the_same_keys_are_graded_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    verify(tmp_path, answers({0, 1}))
    shutil.move(tmp_path / "completions", tmp_path / "completions.old-1")  # as rerun=[generate] does
    found = verify(tmp_path, answers({0, 4, 5}))
    right = {n for n, p in enumerate(PROMPTS) if verdicts(tmp_path)[p.prompt_id].status == "correct"}
    assert right == {0, 4, 5}
    assert found.results["by_status"] == {"correct": 3, "wrong": 3}
    assert found.counts["new"] == 3  # prompts 0, 2 and 3 have the text that they had
    assert "3 of 6 verdicts are of texts that are not there any more" in caplog.text
    assert len(verdict_store(tmp_path / "verify" / "store.old-1", {}).rows()) == 6
    assert verify(tmp_path, answers({0, 4, 5})).counts["new"] == 0


def test_verdicts_without_a_hash_are_not_trusted(tmp_path: Path) -> None:
    verify(tmp_path, answers({0}))
    rows = [replace(r, text_hash=None) for r in verdicts(tmp_path).values()]
    shutil.rmtree(tmp_path / "verify" / "store")
    with verdict_store(tmp_path / "verify" / "store", {"stage": "verify", "version": 1}) as store:
        store.append(rows)
    assert verify(tmp_path, answers({0})).counts["new"] == 6


def test_a_request_that_failed_for_good_is_masked(tmp_path: Path) -> None:
    failed = Completion(PROMPTS[0].prompt_id, 0, "", "error", 0, 0, 1, error="500 after 9 tries")
    found = verify(tmp_path, [failed, *answers({1})[1:]])
    row = verdicts(tmp_path)[PROMPTS[0].prompt_id]
    assert (row.status, row.score, row.detail) == ("infra_error", None, "500 after 9 tries")
    assert found.counts["masked"] == 1 and found.results["by_status"] == {"correct": 1, "infra_error": 1, "wrong": 4}


def test_following_grades_what_comes_and_the_stage_the_rest(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts", PROMPTS, PROMPT_SCHEMA)
    stop, graded = threading.Event(), []
    paths = (tmp_path / "verify", tmp_path / "prompts", tmp_path / "completions")
    follower = threading.Thread(
        target=lambda: graded.append(verify_stage.follow("verify", SETTINGS, *paths, stop.is_set)), daemon=True
    )
    follower.start()  # before there is a store
    with completion_store(tmp_path / "completions", {}) as store:
        for completion in answers({0, 1})[:4]:
            store.append([completion])
            if completion.seed == 1:
                store.seal()
        deadline = time.monotonic() + 120
        while len(verdict_store(tmp_path / "verify" / "store", {}).load()) < 4:
            assert follower.is_alive() and time.monotonic() < deadline
            time.sleep(0.05)
    stop.set()
    follower.join(120)
    assert graded == [4]
    assert verify(tmp_path, answers({0, 1})).counts["new"] == 2
    assert sum(r.status == "correct" for r in verdicts(tmp_path).values()) == 2
