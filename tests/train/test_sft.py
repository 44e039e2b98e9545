"""SFT: what is trained on, that it learns, the stop by accuracy, and what is dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_helpers import Killed

from openr1.errors import UserError
from openr1.metrics import read_metrics
from openr1.models.source import load_model, load_tokenizer
from openr1.records import Prompt
from openr1.train.account import TrainResult
from openr1.train.lengths import split_by_length
from openr1.train.rows import IGNORED, tokenize

Run = Callable[..., TrainResult]


def test_the_loss_is_on_the_completion_up_to_its_eos(tiny: Path, rows: list[dict[str, Any]]) -> None:
    tokenizer = load_tokenizer(tiny)
    data, dropped = tokenize(rows, tokenizer, 96)
    assert len(data) == len(rows) and dropped == {}
    trained = [i for i in data[0]["labels"] if i != IGNORED]
    assert tokenizer.decode(trained) == rows[0]["completion"][0]["content"] + "<|im_end|>"
    head = [i for i, label in zip(data[0]["input_ids"], data[0]["labels"], strict=True) if label == IGNORED]
    assert tokenizer.decode(head) == "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n"
    whole, _ = tokenize(rows, tokenizer, 96, whole=True)
    assert whole[0]["labels"] == whole[0]["input_ids"] == data[0]["input_ids"]


def test_rows_that_do_not_fit_are_dropped_and_counted(sft: Run, rows: list[dict[str, Any]]) -> None:
    long = rows[0] | {"completion": [{"role": "assistant", "content": "1" * 200}]}
    assert sft("run", settings={"rows": [*rows, long, long]}, max_steps=1).dropped == {"too_long": 2}
    with pytest.raises(UserError, match="no row is left to train on \\(2 too_long\\)"):
        sft("none", settings={"rows": [long, long]})


def test_it_learns_and_every_step_is_logged(sft: Run, tmp_path: Path) -> None:
    result = sft("run", max_steps=40, save_strategy="no")
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert {"loss", "grad_norm", "learning_rate", "entropy", "seconds/step", "tokens"} <= set(lines[0])
    assert result.tokens["trained"] == lines[-1]["tokens"] and result.tokens["generated"] == 0
    assert result.flops == 6 * result.parameters * result.tokens["trained"]


STOP = {"accuracy": 0.0, "every": 4, "max_new_tokens": 12}


def test_it_stops_once_the_accuracy_is_reached(sft: Run, tmp_path: Path, prompts: list[Prompt]) -> None:
    result = sft("run", settings={"stop_at": STOP, "dev": prompts})
    assert result.steps == 4 and "reached 0 at step 4 (n = 16)" in result.stopped
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert len(lines) == 4 and 0 <= lines[-1]["accuracy"] <= 1 and "accuracy" not in lines[0]
    assert result.phases["evaluate"] > 0


def test_measuring_changes_nothing(sft: Run, tmp_path: Path, prompts: list[Prompt]) -> None:
    sft("plain")
    sft("measured", settings={"stop_at": STOP | {"accuracy": 1.0, "every": 2}, "dev": prompts})
    plain, measured = (tmp_path / n / "model/model.safetensors" for n in ("plain", "measured"))
    assert plain.read_bytes() == measured.read_bytes()


@pytest.mark.parametrize("kill", [4, 6])
def test_a_stopped_run_resumes_exactly(sft: Run, tmp_path: Path, prompts: list[Prompt], kill: int) -> None:
    """Killed before the stop at step 6, and right at it with the checkpoint of step 6 not yet written."""
    stop = {"stop_at": STOP | {"every": 6}, "dev": prompts}
    whole = sft("whole", settings=stop)
    with pytest.raises(Killed):
        sft("killed", kill=kill, settings=stop)
    again = sft("killed", settings=stop)
    assert again.steps == whole.steps == 6 and again.stopped == whole.stopped
    one, two = (tmp_path / n / "model/model.safetensors" for n in ("whole", "killed"))
    assert one.read_bytes() == two.read_bytes()


def test_a_run_that_had_stopped_does_not_go_on(sft: Run, tmp_path: Path, prompts: list[Prompt]) -> None:
    stop = {"stop_at": STOP | {"every": 6}, "dev": prompts}
    sft("run", settings=stop)
    before = (tmp_path / "run/model/model.safetensors").read_bytes()
    (tmp_path / "run/model/model.safetensors").unlink()
    assert sft("run", settings=stop).steps == 6
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == before


def test_stop_at_needs_development_prompts(sft: Run) -> None:
    with pytest.raises(UserError, match="stop_at needs development prompts"):
        sft("run", settings={"stop_at": STOP})


def test_a_template_that_never_ends_a_reply_is_refused(sft: Run, tiny: Path, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "wrong"
    shutil.copytree(tiny, model)
    path = model / "chat_template.jinja"
    path.write_text(path.read_text().replace("content + '<|im_end|>'", "content + '<|endoftext|>'"))
    with pytest.raises(UserError, match="ends a reply with '<|endoftext|>', but .* stops at '<|im_end|>'"):
        sft("run", settings={"model_dir": model})


# ------------------------------------------------------------------------------------- uneven lengths in two parts
def test_uneven_rows_are_split_where_most_padding_is_saved() -> None:
    short, long = split_by_length(torch.tensor([5, 40, 6, 5, 41, 5, 6, 5, 5, 40]))
    assert sorted(short.tolist()) == [0, 2, 3, 5, 6, 7, 8] and sorted(long.tolist()) == [1, 4, 9]
    assert len(split_by_length(torch.full((16,), 7))) == 1
    assert len(split_by_length(torch.tensor([1, 50]))) == 1


def test_two_parts_have_the_gradient_of_one_batch(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A step of SFT on uneven rows, split and not split: the same loss, gradient norm and entropy up to rounding."""
    from openr1.metrics import MetricLog
    from openr1.train import trl_internals
    from openr1.train.settings import SFTSettings
    from openr1.train.sft import run_sft

    rows = [
        {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "1" * n}]}
        for n in (1, 2, 1, 3, 2, 1, 40, 50)
    ]
    lines = []
    for name in ("split", "whole"):
        if name == "whole":
            monkeypatch.setattr(trl_internals, "split_by_length", lambda lengths: [torch.arange(len(lengths))])
        work = tmp_path / name
        settings = SFTSettings(train={"per_device_train_batch_size": 8, "max_steps": 1, "save_strategy": "no"})
        log = MetricLog(work / "metrics.jsonl")
        run_sft(model_dir=tiny, rows=rows, settings=settings, out=work / "m", work=work, metrics=log, seed=0)
        lines.append(read_metrics(log.path)[0])
    for key in ("loss", "grad_norm", "entropy"):
        assert lines[0][key] == pytest.approx(lines[1][key], rel=1e-4), key
    model = load_model(tmp_path / "split/m")
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_measuring_puts_every_generator_back() -> None:
    import random

    import numpy as np

    from openr1.train.stop import untouched_randomness

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    with untouched_randomness():
        first = draw()
    assert draw() == first
