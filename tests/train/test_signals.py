"""SIGUSR1 and SIGTERM: a checkpoint at the end of the running step; the same bytes in the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import parallel_helpers as project
import pytest
from train_helpers import GRPO_TRAIN, REWARD, SFT_TRAIN, make_rows

from openr1.errors import Terminated
from openr1.metrics import MetricLog, read_metrics
from openr1.records import Prompt
from openr1.rewards import ComposedReward
from openr1.train import rollouts
from openr1.train.account import TrainResult
from openr1.train.settings import GRPOSettings, SFTSettings


class SignallingLog(MetricLog):
    """A metric log whose process is sent a signal once step `at` is logged."""

    def __init__(self, path: Path, at: int | None, number: int) -> None:
        super().__init__(path)
        self.at, self.number = at, number

    def log(self, step: int, values: Any) -> None:
        super().log(step, values)
        if step == self.at:
            os.kill(os.getpid(), self.number)


def train(
    kind: str, tiny: Path, prompts: Sequence[Prompt], work: Path, at: int | None = None, number: int = signal.SIGTERM
) -> TrainResult:
    """Ten steps that save at the end only, by default."""
    common: dict[str, Any] = {"model_dir": tiny, "out": work / "model", "work": work, "seed": 3}
    common["metrics"] = SignallingLog(work / "metrics.jsonl", at, number)
    if kind == "sft":
        from openr1.train.sft import run_sft

        settings = SFTSettings(train=SFT_TRAIN | {"max_steps": 10, "save_steps": 100})
        return run_sft(rows=make_rows(prompts), settings=settings, **common)
    from openr1.train.grpo import run_grpo

    own = {"max_steps": 10, "save_steps": 100, "steps_per_generation": 4}
    grpo = GRPOSettings(train=GRPO_TRAIN | own, reward=REWARD)
    return run_grpo(prompts=prompts, settings=grpo, reward=ComposedReward(REWARD), **common)


def checkpoints(work: Path) -> set[str]:
    return {p.name for p in work.glob("checkpoint-*")}


def model(work: Path) -> bytes:
    return (work / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_sigterm_saves_and_ends_and_the_same_command_gives_the_same_bytes(
    kind: str, tiny: Path, prompts: list[Prompt], tmp_path: Path
) -> None:
    whole = train(kind, tiny, prompts, tmp_path / "whole")
    work = tmp_path / "ended"
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated, match="ended by SIGTERM after step 6, checkpoint-6 holds it"):
        train(kind, tiny, prompts, work, at=5)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert checkpoints(work) == {"checkpoint-6"}
    assert not (work / "model").exists()
    result = train(kind, tiny, prompts, work)
    assert (result.steps, result.stopped, result.tokens) == (10, whole.stopped, whole.tokens)
    assert model(work) == model(tmp_path / "whole")
    assert [row["step"] for row in read_metrics(work / "metrics.jsonl")] == list(range(1, 11))
    if kind == "grpo":
        assert rollouts.read(work).equals(rollouts.read(tmp_path / "whole"))


def test_sigusr1_saves_and_goes_on(tiny: Path, prompts: list[Prompt], tmp_path: Path) -> None:
    train("sft", tiny, prompts, tmp_path / "whole")
    result = train("sft", tiny, prompts, tmp_path / "asked", at=3, number=signal.SIGUSR1)
    assert result.steps == 10
    assert checkpoints(tmp_path / "asked") == {"checkpoint-4", "checkpoint-10"}
    assert model(tmp_path / "asked") == model(tmp_path / "whole")


def test_sigterm_at_the_last_step_changes_nothing(tiny: Path, prompts: list[Prompt], tmp_path: Path) -> None:
    result = train("sft", tiny, prompts, tmp_path / "run", at=9)
    assert result.stopped == "all 10 steps done"
    assert (tmp_path / "run/model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single", "ddp"])
def test_a_run_hands_sigterm_and_sigusr1_on(kind: str, tmp_path: Path) -> None:
    """From `openr1 run` through the worker, and with ddp through it to two ranks."""
    count = 1 if kind == "single" else 2
    one = ("sft", kind, count, 16 // count)
    folder = project.project(tmp_path, {"ended": one, "whole": one})
    words = [
        f"stages.{name}.train.{key}" for name in ("ended", "whole") for key in ("max_steps=120", "save_steps=500")
    ]
    work = folder / "runs/run/ended"
    process = project.start(folder, "stages=[prompts,base,ended]", *words)
    await_steps(work, 3)
    process.send_signal(signal.SIGUSR1)
    await_steps(work, len(read_metrics(work / "metrics.jsonl")) + 5)
    assert len(checkpoints(work)) == 1
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 143, messages + project.logs(folder)
    assert messages.count("ended by SIGTERM after step") == 1
    assert "Traceback" not in messages
    assert project.manifest(folder, "ended")["exit"]["code"] == 143
    assert len(checkpoints(work)) == 2
    project.run(folder, *words)
    ended, whole = project.weights(folder, "ended"), project.weights(folder, "whole")
    assert all(bool((ended[name] == whole[name]).all()) for name in whole)


def await_steps(work: Path, steps: int, limit: float = 240.0) -> None:
    """Until so many steps are logged."""
    deadline = time.monotonic() + limit
    while len(read_metrics(work / "metrics.jsonl")) < steps:
        assert time.monotonic() < deadline
        time.sleep(0.02)
