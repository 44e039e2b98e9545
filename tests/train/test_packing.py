"""Packed rows give the loss and the gradients of rows by themselves; what lets them read each other is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from train_helpers import make_prompt, make_rows

from openr1.models.source import load_model, load_tokenizer
from openr1.train.account import TrainResult
from openr1.train.check import train_problems
from openr1.train.rows import IGNORED, tokenize

Run = Callable[..., TrainResult]
ROWS = make_rows([make_prompt(a, b) for a in (1, 22, 333) for b in range(1, 9)])  # of several lengths


@pytest.fixture(scope="module")
def sharp(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with large weights, whose attention is far from even: reading a neighbour shows."""
    from openr1.models.scratch import save_model

    model = load_model(tiny)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "proj" in name or "embed" in name:
                weights.mul_(20)
    return save_model(model, load_tokenizer(tiny), tmp_path_factory.mktemp("sharp") / "model")


def alone(model: Any, rows: list[dict[str, list[int]]]) -> float:
    """Mean loss of a token, each row put through the model by itself."""
    total, count = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1]
        kept = labels != IGNORED
        total += torch.nn.functional.cross_entropy(logits[kept], labels[kept], reduction="sum").item()
        count += int(kept.sum())
    return total / count


def packed(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], folder: Path, **how: Any) -> float:
    """The loss of all rows in one batch, prepared, collated and computed by TRL."""
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=64,
        gradient_checkpointing=False, **how,
    )  # fmt: skip
    data = datasets.Dataset.from_list(rows)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape[0] < len(rows)
    with torch.no_grad():
        return float(trainer.compute_loss(model, dict(batch)))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_batch_has_the_loss_of_its_rows_alone(attention: str, sharp: Path, tmp_path: Path) -> None:
    model = load_model(sharp, "float32", {"attn_implementation": attention}).eval()
    tokenizer = load_tokenizer(sharp)
    rows, _ = tokenize(ROWS, tokenizer, 64)
    expected = alone(model, rows)
    bfd = packed(model, tokenizer, rows, tmp_path, packing=True, packing_strategy="bfd", max_length=64)
    assert bfd == pytest.approx(expected, abs=2e-6 * expected)
    flat = packed(model, tokenizer, rows, tmp_path, padding_free=True, max_length=None)
    assert flat == pytest.approx(expected, abs=2e-6 * expected)
    wrapped = packed(model, tokenizer, rows, tmp_path, packing=True, packing_strategy="wrapped", max_length=64)
    assert abs(wrapped - expected) > 1e-3 * expected, "the control: where rows read each other, it shows"


def test_a_step_on_packed_rows_is_a_step_on_the_rows(sft: Run, sharp: Path, tmp_path: Path) -> None:
    one = {"model_dir": sharp, "rows": ROWS}
    step = {"max_steps": 1, "save_steps": 1, "max_length": 64, "learning_rate": 1e-3, "optim": "sgd"}
    sft("plain", settings=one, per_device_train_batch_size=len(ROWS), **step)
    sft("packed", settings=one, per_device_train_batch_size=64, packing=True, **step)
    from openr1.metrics import read_metrics

    lines = [read_metrics(tmp_path / name / "metrics.jsonl")[0] for name in ("plain", "packed")]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)
    assert lines[0]["grad_norm"] == pytest.approx(lines[1]["grad_norm"], rel=1e-4)
    before, plain, both = (
        load_model(f).state_dict() for f in (sharp, tmp_path / "plain/model", tmp_path / "packed/model")
    )
    moved = {name: (plain[name] - before[name]).abs().max() for name in before}
    assert all(moved[name] > 0 for name in moved if "proj" in name)
    assert all((both[name] - plain[name]).abs().max() <= 1e-3 * moved[name] + 1e-7 for name in plain)


def test_what_lets_rows_read_each_other_is_refused() -> None:
    (line,) = train_problems("sft", {"packing": True, "packing_strategy": "wrapped"})
    assert "lets them read each other; use bfd" in line
    (line,) = train_problems("sft", {"padding_free": True})
    assert "set max_length null, or packing true" in line
    for good in ({"packing": True}, {"packing_strategy": "wrapped"}, {"padding_free": True, "max_length": None}):
        assert train_problems("sft", good) == []
