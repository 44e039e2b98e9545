"""LoRA: what comes out is a whole model that differs from its base by a matrix of the adapters' rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_helpers import Killed

from openr1.errors import UserError
from openr1.models.source import load_model
from openr1.train.account import TrainResult
from openr1.train.adapters import quantize_problem
from openr1.train.settings import LoraSettings

Run = Callable[..., TrainResult]
LORA: dict[str, Any] = {"lora": LoraSettings(r=2, alpha=4, target_modules=["q_proj", "down_proj"])}


def changes(base: Path, after: Path) -> dict[str, torch.Tensor]:
    before, now = load_model(base).state_dict(), load_model(after).state_dict()
    assert before.keys() == now.keys()
    return {name: now[name] - before[name] for name in now if not torch.equal(now[name], before[name])}


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_model_changes_by_the_rank_of_its_adapters_and_resumes_exactly(
    kind: str, sft: Run, grpo: Run, tiny: Path, tmp_path: Path
) -> None:
    run = sft if kind == "sft" else grpo
    run("whole", settings=LORA)
    changed = changes(tiny, tmp_path / "whole" / "model")
    assert changed
    for name, delta in changed.items():
        assert "q_proj" in name or "down_proj" in name
        assert torch.linalg.matrix_rank(delta, rtol=1e-4) <= 2
    assert not list((tmp_path / "whole" / "model").glob("adapter*"))
    assert list((tmp_path / "whole").glob("checkpoint-*/adapter_model.safetensors"))

    with pytest.raises(Killed):
        run("killed", settings=LORA, kill=3)
    run("killed", settings=LORA)
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_stage_whose_training_had_ended_makes_its_model_from_the_checkpoint(
    sft: Run, tiny: Path, tmp_path: Path
) -> None:
    import shutil

    sft("once", settings=LORA)
    first = (tmp_path / "once" / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "once" / "model")
    sft("once", settings=LORA)
    assert (tmp_path / "once" / "model" / "model.safetensors").read_bytes() == first
    assert changes(tiny, tmp_path / "once" / "model")


def test_four_bits_need_a_gpu_and_bitsandbytes(sft: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quantize_problem("none", gpu=False) is None
    assert "needs a GPU" in str(quantize_problem("nf4", gpu=False))
    monkeypatch.setattr("openr1.train.adapters.importlib.util.find_spec", lambda name: None)
    assert "pip install bitsandbytes" in str(quantize_problem("nf4", gpu=True))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="nf4 needs a GPU"):
            sft("bits", settings={"lora": LoraSettings(quantize="nf4")})
