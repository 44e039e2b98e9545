"""A killed training stage, started again, ends with the bytes of one that was never killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from train_helpers import Killed

from openr1.metrics import of_the_machine, read_metrics
from openr1.train import rollouts
from openr1.train.account import TrainResult

Run = Callable[..., TrainResult]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def timeless(folder: Path) -> list[dict[str, Any]]:
    rows = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not of_the_machine(k)} for row in rows]


@pytest.mark.parametrize(
    ("kill", "train"),
    [
        (2, {}),
        (9, {}),
        (8, {"save_steps": 2, "train_sampling_strategy": "group_by_length"}),  # in the middle of the second epoch
    ],
)
def test_sft_resumes_exactly(sft: Run, tmp_path: Path, kill: int, train: dict[str, Any]) -> None:
    whole = sft("whole", **train)
    with pytest.raises(Killed):
        sft("killed", kill=kill, **train)
    again = sft("killed", **train)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole")
    assert (again.steps, again.tokens, again.flops, again.stopped) == (
        whole.steps,
        whole.tokens,
        whole.flops,
        whole.stopped,
    )


@pytest.mark.parametrize(
    ("kill", "train"),
    [
        (1, {}),
        (3, {}),
        (5, {}),
        # checkpoints in the middle of a generation cycle: two optimizer steps a generation, each trained on twice
        (4, {"steps_per_generation": 2, "num_iterations": 2, "save_steps": 3}),
        # micro-steps: a generation is consumed in two accumulation steps
        (3, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "save_steps": 1}),
        # the second epoch, whose order of prompts is another
        (12, {"max_steps": 14, "save_steps": 5, "steps_per_generation": 2}),
    ],
)
def test_grpo_resumes_exactly(grpo: Run, tmp_path: Path, kill: int, train: dict[str, Any]) -> None:
    whole = grpo("whole", **train)
    with pytest.raises(Killed):
        grpo("killed", kill=kill, **train)
    again = grpo("killed", **train)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "whole")
    assert rollouts.read(tmp_path / "killed").equals(rollouts.read(tmp_path / "whole"))
    assert (again.tokens, again.flops) == (whole.tokens, whole.flops)


def test_rollouts_after_the_checkpoint_are_made_again_once(grpo: Run, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        grpo("run", kill=3)  # the checkpoint is of step 2
    assert len(list((tmp_path / "run/rollouts").iterdir())) == 3
    grpo("run")
    steps = rollouts.read(tmp_path / "run").column("step").to_pylist()
    assert sorted(set(steps)) == [1, 2, 3, 4, 5] and len(steps) == 5 * 8


def test_a_finished_stage_without_its_model_only_writes_the_model(sft: Run, tmp_path: Path) -> None:
    sft("run")
    before = weights(tmp_path / "run")
    (tmp_path / "run/model/model.safetensors").unlink()
    lines = (tmp_path / "run/metrics.jsonl").read_text().count("\n")
    again = sft("run")
    assert weights(tmp_path / "run") == before and again.steps == 9
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == lines


def test_a_half_written_checkpoint_is_skipped_and_said(
    sft: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sft("whole")
    with pytest.raises(Killed):
        sft("killed", kill=8)
    newest = tmp_path / "killed/checkpoint-6"
    with open(newest / "optimizer.pt", "r+b") as f:
        f.truncate(100)
    sft("killed")
    assert "checkpoint-6 is damaged" in caplog.text
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_only_the_newest_checkpoints_stay(sft: Run, tmp_path: Path) -> None:
    sft("run", save_total_limit=1)
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-9"]
