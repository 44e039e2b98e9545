"""The exported model is the model: its weights, its tokenizer, its greedy answers; and what older readers look for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from openr1.errors import UserError
from openr1.metrics import MetricLog
from openr1.models.chat import check_template, render, render_whole
from openr1.models.export import older_config, without_training_tags
from openr1.models.scratch import init_model
from openr1.models.settings import ModelSettings
from openr1.models.source import load_model, load_tokenizer
from openr1.records import Message
from openr1.stages.base import StageContext, StageResult
from openr1.stages.export import answers, run
from openr1.stages.settings import ExportStage

FACTS: dict[str, Any] = {
    "source": "scratch", "architecture": "qwen3", "layers": 2, "hidden": 32, "ffn": 64, "heads": 2, "kv_heads": 1,
    "context": 256, "dtype": "float32", "tie_embeddings": False, "rope_theta": 50000.0,
    "tokenizer": {"kind": "char", "words": ["<think>", "</think>"]},
}  # fmt: skip
TURNS: list[Message] = [
    {"role": "user", "content": "1+1"},
    {"role": "assistant", "content": "<think>one and one</think>\n2"},
    {"role": "user", "content": "2+2"},
    {"role": "assistant", "content": "<think>two and two</think>\n4"},
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init_model(ModelSettings.model_validate(FACTS), 3, tmp_path_factory.mktemp("model") / "source")


def export(source: Path, folder: Path, **settings: Any) -> tuple[StageResult, Path]:
    stage = ExportStage.model_validate({"kind": "export", "seed": 0, "model": {"source": str(source)}} | settings)
    result = run(StageContext("run", "export", folder, stage, {}, MetricLog(folder / "metrics.jsonl")))
    return result, folder / ".partial/model"


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def test_shards_hold_the_weights_in_the_dtype_and_the_answers_are_the_same(source: Path, tmp_path: Path) -> None:
    result, out = export(source, tmp_path, shard_gb=1e-5)
    told = result.results["export"]
    assert told["compared"]["equal"] == told["compared"]["prompts"] == 4
    before, after = weights(source), weights(out)
    assert before.keys() == after.keys() and len(before) == told["tensors"]
    assert all(torch.equal(after[name], tensor.bfloat16()) for name, tensor in before.items())
    assert {(out / name).stat().st_mode for name in told["shards"]} == {(out / "config.json").stat().st_mode}
    assert len(told["shards"]) > 2 and not (out / "model.safetensors").exists()
    assert read(out, "model.safetensors.index.json")["weight_map"].keys() == before.keys()
    largest = max(t.numel() * 2 for t in after.values())
    assert all(size <= max(10_000, largest) + 4096 for size in told["shards"].values())
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoModelForCausalLM.from_pretrained(out, dtype="auto")  # as anyone loads it
    assert plain.dtype == torch.bfloat16 and plain.config.rope_parameters["rope_theta"] == 50000.0
    tokenizer = AutoTokenizer.from_pretrained(out)
    asked = tokenizer(render(load_tokenizer(source), TURNS[:1]), return_tensors="pt")
    generated = plain.generate(**asked, max_new_tokens=8, do_sample=False)[0, asked["input_ids"].shape[1] :].tolist()
    ours = load_model(source, "bfloat16").generate(**asked, max_new_tokens=8, do_sample=False)
    assert generated == ours[0, asked["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_one_file_where_it_fits(source: Path, tmp_path: Path, dtype: str) -> None:
    result, out = export(source, tmp_path, dtype=dtype)
    assert list(result.results["export"]["shards"]) == ["model.safetensors"]
    assert {str(t.dtype) for t in weights(out).values()} == {f"torch.{dtype}"}
    assert answers(out, dtype, 12) == answers(source, dtype, 12)


def test_older_readers_find_what_they_look_for(source: Path, tmp_path: Path) -> None:
    _, out = export(source, tmp_path, sampling={"temperature": 0.6, "top_p": 0.95})
    config, tokenizer, generation = (
        read(out, f"{name}.json") for name in ("config", "tokenizer_config", "generation_config")
    )
    assert (config["torch_dtype"], config["rope_theta"]) == ("bfloat16", 50000.0)
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast" and "extra_special_tokens" not in tokenizer
    assert tokenizer["chat_template"] == (out / "chat_template.jinja").read_text()
    assert "generation %}" not in tokenizer["chat_template"]
    ends = load_tokenizer(out)
    assert generation["eos_token_id"] == ends.eos_token_id and generation["pad_token_id"] == ends.pad_token_id
    assert (generation["temperature"], generation["top_p"], generation["do_sample"]) == (0.6, 0.95, True)
    assert check_template(ends, out) == []
    assert load_tokenizer(source).get_vocab() == ends.get_vocab()
    scaled = older_config({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, "float16")
    assert scaled["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0} and scaled["rope_theta"] == 1e6


@pytest.mark.parametrize("own", ["chatml", "chatml_think"])
@pytest.mark.parametrize("wanted", ["keep", "drop", None])
def test_earlier_reasoning_is_kept_or_dropped_as_asked(
    source: Path, tmp_path: Path, own: str, wanted: str | None
) -> None:
    model = {"source": str(source), "chat_template": own}
    result, out = export(source, tmp_path, model=model, earlier_reasoning=wanted, compare_tokens=0)
    expected = wanted or ("keep" if own == "chatml" else "drop")
    assert result.results["export"]["earlier_reasoning"] == expected
    tokenizer = load_tokenizer(out)
    text = render_whole(tokenizer, TURNS)
    assert ("one and one" in text) == (expected == "keep") and "two and two" in text
    before = load_tokenizer(source, own)
    assert render(tokenizer, TURNS[:1]) == render(before, TURNS[:1])
    assert render_whole(tokenizer, TURNS[:2]) == render_whole(before, TURNS[:2])


def test_training_tags_go_and_the_text_stays() -> None:
    assert without_training_tags("a {% generation %}b{% endgeneration %}") == "a {# #}b{# #}"
    assert without_training_tags("a\n{%- generation -%}\nb") == "a\n{#- -#}\nb"


def test_what_cannot_be_exported_is_refused(source: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(source, tmp_path / "model")
    config = read(folder, "config.json")
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 4}}))
    with pytest.raises(UserError, match="quantised"):
        export(folder, tmp_path / "a")
    (folder / "config.json").write_text(json.dumps(config))
    own = "{% for m in messages %}{{ m['role'] + ':' }}{% if m['role'] == 'assistant' %}{% if loop.last %}"
    own += "{{ m['content'] }}{% else %}{{ m['content'][-1:] }}{% endif %}{{ '<|im_end|>' }}{% else %}"
    own += "{{ m['content'] + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    (folder / "chat_template.jinja").write_text(own)
    with pytest.raises(UserError, match="earlier_reasoning: keep, but the model's own template drops it"):
        export(folder, tmp_path / "b", earlier_reasoning="keep")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(UserError, match=r"no \.safetensors file"):
        export(folder, tmp_path / "c")
