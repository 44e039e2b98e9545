"""The best checkpoint by an evaluation is the output, also after a kill; what is kept of checkpoints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_helpers import Killed

from openr1.errors import UserError
from openr1.models.source import load_model
from openr1.records import Prompt
from openr1.train import best, checkpoints
from openr1.train.account import Account, TrainResult
from openr1.train.settings import BestSettings, GRPOSettings, LoraSettings

Run = Callable[..., TrainResult]
EVERY_TWO = BestSettings(every=2, max_new_tokens=4)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the measurements say, in turn: a tiny model is never right by itself, so the numbers are written here."""
    values: list[float] = []

    def measure(model: Any, *_: Any) -> float:
        with torch.no_grad():
            total = sum(float(p.double().sum()) for p in model.parameters())
        return values[int(abs(total) * 1e6) % len(values)]  # a function of the weights alone, as an accuracy is

    monkeypatch.setattr(best, "measured_accuracy", measure)
    return values


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(folder / "model").state_dict())


ADAPTERS = LoraSettings(r=2, alpha=4, target_modules=["q_proj"])


@pytest.mark.parametrize(
    ("kind", "lora", "kills"),
    [
        ("grpo", None, (5,)),
        *(
            pytest.param(kind, lora, (2, 4, 7, 8), marks=pytest.mark.slow)
            for kind in ("sft", "grpo")
            for lora in (None, ADAPTERS)
        ),
    ],
)
def test_the_best_step_is_put_out_and_a_kill_changes_nothing(
    kind: str,
    lora: LoraSettings | None,
    kills: tuple[int, ...],
    sft: Run,
    grpo: Run,
    prompts: list[Prompt],
    tmp_path: Path,
    measured: list[float],
) -> None:
    measured += [0.1, 0.7, 0.3, 0.2, 0.5, 0.6, 0.4]
    run = sft if kind == "sft" else grpo
    settings = {"best": EVERY_TWO, "dev": prompts[:4], "lora": lora}
    train = {"max_steps": 8, "save_steps": 3, "save_total_limit": 1, "lr_scheduler_type": "constant"}
    whole = run("whole", settings=settings, **train)
    assert whole.best is not None and list(whole.best["measured"]) == ["2", "4", "6", "8"]
    assert whole.best["accuracy"] == max(whole.best["measured"].values())
    step = whole.best["step"]
    assert [p.name for p in (tmp_path / "whole").glob("best-*")] == [f"best-{step}"]
    short = run("short", settings={"lora": lora}, **train | {"max_steps": step})
    found, expected = weights(tmp_path / "whole"), weights(tmp_path / "short")
    assert short.best is None and all(torch.equal(found[name], expected[name]) for name in expected)
    for kill in kills:
        name = f"killed-{kill}"
        with pytest.raises(Killed):
            run(name, kill=kill, settings=settings, **train)
        assert run(name, settings=settings, **train).best == whole.best
        one, two = (tmp_path / n / "model/model.safetensors" for n in ("whole", name))
        assert one.read_bytes() == two.read_bytes()


def test_of_equals_the_earliest_is_best() -> None:
    account = Account(measured={"2": 0.5, "10": 0.7, "4": 0.7, "6": 0.1})
    found = account.best()
    assert found is not None and (found["step"], found["accuracy"]) == (4, 0.7)
    assert Account().best() is None


def test_it_needs_prompts_and_leaves_the_key_alone(sft: Run, grpo: Run) -> None:
    for run in (sft, grpo):
        with pytest.raises(UserError, match="best needs development prompts"):
            run("none", settings={"best": EVERY_TWO})
    reward = {"parts": {"accuracy": {"weight": 1.0}}}
    plain = GRPOSettings.model_validate({"train": {}, "reward": reward})
    asked = GRPOSettings.model_validate({"train": {}, "reward": reward, "best": {"every": 2, "max_new_tokens": 4}})
    assert "best" not in plain.identity() and asked.identity()["best"]["every"] == 2


# ------------------------------------------------------------------------------------------------------ checkpoints
def test_a_flipped_byte_is_noticed_and_said(sft: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sft("whole")
    with pytest.raises(Killed):
        sft("killed", kill=8)
    path = tmp_path / "killed/checkpoint-6/model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with caplog.at_level("INFO", "openr1"):
        sft("killed")
    assert "checkpoint-6 is damaged or half-written; skipping it" in caplog.text
    assert "resuming from checkpoint-3" in caplog.text
    assert weights(tmp_path / "killed").keys() and all(
        torch.equal(a, b)
        for a, b in zip(weights(tmp_path / "killed").values(), weights(tmp_path / "whole").values(), strict=True)
    )


def checkpoint(work: Path, step: int) -> Path:
    staged = work / checkpoints.STAGING / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "model.safetensors").write_bytes(b"weights" * 100)
    return checkpoints.commit(staged, work)


def test_the_last_good_checkpoint_is_never_pruned(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-3/model.safetensors").write_bytes(b"damaged")
    checkpoints.prune(tmp_path, 1)
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert checkpoints.newest(tmp_path) == tmp_path / "checkpoint-2"
    checkpoint(tmp_path, 4)
    checkpoints.prune(tmp_path, 1)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_checkpoint_that_is_being_read_is_not_pruned(tmp_path: Path) -> None:
    """It goes with the first pruning after whoever copies, uploads or serves it is done."""
    for step in (1, 2, 3):
        checkpoint(tmp_path, step)
    mapped = tmp_path / "checkpoint-2/model.safetensors"
    code = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n"
    command = [sys.executable, "-c", code + "f.close(); print('mapped', flush=True); sys.stdin.read()", str(mapped)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline()
    with open(tmp_path / "checkpoint-1/model.safetensors", "rb"):  # an upload in a thread of the same process
        checkpoints.prune(tmp_path, 1)
        assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in (1, 2, 3)]
    checkpoints.prune(tmp_path, 1)
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    server.communicate(timeout=30)
    checkpoints.prune(tmp_path, 1)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
