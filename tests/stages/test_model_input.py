"""The model of a stage: from scratch, or a folder with a shipped template and facts that are held against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openr1.errors import UserError
from openr1.metrics import MetricLog
from openr1.models.chat import TEMPLATES
from openr1.models.scratch import init_model
from openr1.models.settings import ModelSettings
from openr1.models.source import load_tokenizer
from openr1.stages.base import PARTIAL, StageContext
from openr1.stages.model_input import model_folder
from openr1.stages.settings import SFTStage

SCRATCH: dict[str, Any] = {
    "source": "scratch", "architecture": "qwen3", "layers": 1, "hidden": 16, "ffn": 32, "heads": 1, "kv_heads": 1,
    "context": 64, "dtype": "float32", "tie_embeddings": True, "rope_theta": 10000.0, "tokenizer": {"kind": "char"},
}  # fmt: skip


def context(tmp_path: Path, **model: Any) -> StageContext:
    settings = SFTStage.model_validate({"kind": "sft", "seed": 0, "train": {}, "model": model})
    return StageContext("run", "sft", tmp_path / "sft", settings, {}, MetricLog(tmp_path / "metrics.jsonl"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return init_model(ModelSettings.model_validate(SCRATCH), 0, tmp_path / "theirs")


def test_a_model_from_scratch_is_made_in_the_stage(tmp_path: Path) -> None:
    folder = model_folder(context(tmp_path, **SCRATCH))
    assert folder == tmp_path / "sft" / PARTIAL / "initial" and (folder / "model.safetensors").is_file()


def test_a_folder_is_read_where_it_lies(theirs: Path, tmp_path: Path) -> None:
    assert model_folder(context(tmp_path, source=str(theirs), context=64)) == theirs


def test_a_shipped_template_is_put_beside_and_not_into_the_folder(theirs: Path, tmp_path: Path) -> None:
    before = {f.name: f.read_bytes() for f in theirs.iterdir()}
    folder = model_folder(context(tmp_path, source=str(theirs), chat_template="chatml_think"))
    assert folder == tmp_path / "sft" / PARTIAL / "initial"
    assert load_tokenizer(folder).chat_template == TEMPLATES["chatml_think"]
    assert {f.name: f.read_bytes() for f in theirs.iterdir()} == before


def test_facts_that_the_model_contradicts_are_refused_together(theirs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        model_folder(context(tmp_path, source=str(theirs), context=4096, layers=2))
    assert [p.split(",")[0] for p in caught.value.problems] == [
        "sft: model.layers is 2",
        "sft: model.context is 4096",
    ]
