"""A longer context is a new config over the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from openr1.errors import UserError
from openr1.metrics import MetricLog
from openr1.models.settings import ModelSettings
from openr1.models.source import load_model, load_tokenizer
from openr1.stages.base import StageContext
from openr1.stages.extend_context import extended, run
from openr1.stages.settings import ExtendContextStage

MODEL = {
    "source": "scratch", "architecture": "qwen2", "layers": 2, "hidden": 32, "ffn": 64, "heads": 4, "kv_heads": 2,
    "context": 64, "dtype": "float32", "tie_embeddings": True, "rope_theta": 10000.0, "tokenizer": {"kind": "char"},
}  # fmt: skip


def test_a_model_reads_beyond_its_old_context_with_its_old_weights(tmp_path: Path) -> None:
    settings = ExtendContextStage(
        kind="extend_context", seed=0, model=ModelSettings.model_validate(MODEL), context=256, rope_theta=300000.0
    )
    ctx = StageContext("run", "longer", tmp_path, settings, {}, MetricLog(tmp_path / "metrics.jsonl"))
    result = run(ctx)
    made = tmp_path / ".partial" / "model"
    model, before = load_model(made), load_model(tmp_path / ".partial" / "initial")
    assert result.results["context"] == {"before": 64, "after": 256}
    assert model.config.max_position_embeddings == 256
    assert model.config.rope_parameters["rope_theta"] == 300000.0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert load_tokenizer(made).chat_template
    ids = torch.randint(0, 90, (1, 200))
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all()
        short = ids[:, :8]
        assert not torch.allclose(model(short).logits, before(short).logits)  # the base has changed, positions with it


def test_the_base_is_changed_where_the_config_keeps_it() -> None:
    old: dict[str, Any] = {"max_position_embeddings": 4096, "rope_theta": 10000.0}
    assert extended(old, 32768, 3e5) == {"max_position_embeddings": 32768, "rope_theta": 3e5}
    new = {"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    assert extended(new, 32768, 3e5)["rope_parameters"] == {"rope_type": "default", "rope_theta": 3e5}
    assert extended(old, 32768, None)["rope_theta"] == 10000.0
    assert json.dumps(old)  # what came in is not changed
    assert old["rope_theta"] == 10000.0


def test_a_shorter_context_and_a_model_without_a_base_are_refused() -> None:
    with pytest.raises(UserError, match="less than the model's own 4096"):
        extended({"max_position_embeddings": 4096}, 2048, None)
    with pytest.raises(UserError, match="no rope_theta"):
        extended({"max_position_embeddings": 512}, 1024, 3e5)
