"""`openr1 check --data`: template, EOS, think tokens, and lengths, told before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openr1.config.compose import compose_recipe
from openr1.config.recipe import validate
from openr1.launch.check import check
from openr1.models.scratch import init_model
from openr1.models.settings import ModelSettings, TokenizerSettings

RECIPE = """\
# @package _global_
defaults:
  - /data: local
  - /stage@stages.prompts: prompts
  - /stage@stages.sft: sft
  - /model@stages.sft.model: hub
  - /stage@stages.grpo: grpo
  - _self_
track: {mode: "off"}
data: {path: rows.jsonl, columns: {solution: solution}}
stages:
  prompts: {task: "${data}", splits: {train: {size: 20}, rl: {size: 10}}}
  sft: {inputs: {data: prompts/train}, model: {source: model}, train: {max_steps: 1}}
  grpo:
    inputs: {data: prompts/rl, model: sft/model}
    train: {max_steps: 1, num_generations: 4, per_device_train_batch_size: 8, max_completion_length: 32}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty rows, a quarter of them with long solutions, and a model in a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes/recipe").mkdir(parents=True)
    (tmp_path / "recipes/recipe/own.yaml").write_text(RECIPE)
    thoughts = ["<think>" + "x" * (200 * (n % 4 == 0)) + "</think>" for n in range(40)]
    rows = [
        {"problem": f"What is {n}+1?", "answer": str(n + 1), "solution": f"{thought}{n + 1}"}
        for n, thought in enumerate(thoughts)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ModelSettings(
        source="scratch", architecture="qwen3", layers=1, hidden=16, ffn=16, heads=2, kv_heads=1, context=256,
        dtype="float32", tie_embeddings=True, rope_theta=1e4,
        tokenizer=TokenizerSettings(kind="char", words=["<think>"]),
    )  # fmt: skip
    init_model(settings, 0, tmp_path / "model")
    return tmp_path


def told(*words: str) -> dict[str, Any]:
    return check(validate(compose_recipe("own", ["run=r", *words])), data=True)


def test_tokens_and_lengths_are_told(project: Path) -> None:
    found = told()
    text = "\n".join(found["lines"])
    assert found["problems"] == [] and not [n for n in found["not_checked"] if "lengths" in n]
    assert "EOS '<|im_end|>', pad '<|endoftext|>'; <think> is one token, </think> is 8 tokens" in text
    assert "20 rows: " in text and "10 prompts: " in text


def test_rows_that_are_too_long_are_counted(project: Path) -> None:
    rows = [json.loads(line) for line in (project / "rows.jsonl").read_text().splitlines()]
    text = "\n".join(told("stages.prompts.splits.train.size=30", "stages.sft.train.max_length=128")["lines"])
    long = int(text.split(") are longer than 128 tokens")[0].rpartition(" (")[0].split()[-1])
    assert 0 < long <= sum(len(r["solution"]) > 128 for r in rows)
    problems = told("stages.sft.train.max_length=8")["problems"]
    assert problems == [p for p in problems if "stages.sft.train.max_length: none of 20 rows is left" in p] != []
    (problem,) = told("stages.grpo.train.max_completion_length=250")["problems"]
    assert "stages.grpo: 0 usable prompts, one generation takes 2" in problem


def test_a_template_that_does_not_end_as_the_model_does_is_named(project: Path) -> None:
    path = project / "model/chat_template.jinja"
    path.write_text(path.read_text().replace("content + '<|im_end|>'", "content + '<|endoftext|>'"))
    problems = told()["problems"]
    assert len(problems) == 2  # both stages that train it
    assert "stages.sft.model: the chat template ends a reply with '<|endoftext|>'" in problems[0]
    assert told("stages.sft.model.chat_template=chatml")["problems"] == []
    (problem, _) = told("stages.sft.model.chat_template=chatml", "stages.sft.model.vocab=50")["problems"]
    assert "the tokenizer has ids up to" in problem and "vocabulary is 50" in problem


def test_a_template_that_refuses_the_rows_is_named(project: Path) -> None:
    path = project / "model/chat_template.jinja"
    refusal = "{% if '+1' not in messages[0]['content'] or '2+1' in messages[0]['content'] %}"
    path.write_text(refusal + "{{ raise_exception('not this') }}{% endif %}" + path.read_text())
    problems = told()["problems"]
    assert problems and all("the chat template does not render a conversation of user" in p for p in problems)
    path.write_text("{% if %}")
    assert "does not render" in told()["problems"][0]


def test_a_model_that_is_not_here_is_not_checked(project: Path) -> None:
    found = told("stages.sft.model.source=hub:nobody/nothing-at-all")
    assert any(n.startswith("sft: template, EOS, think tokens and lengths") for n in found["not_checked"])
    assert found["problems"] == []


def test_rows_that_a_run_has_made_are_read(project: Path) -> None:
    """GRPO on a curated set: its lengths are told once the run has it."""
    from openr1.manifest import Manifest
    from openr1.records import PROMPT_SCHEMA
    from openr1.stages.base import write_rows
    from openr1.tasks import build_splits

    stage = "{kind: curate, seed: 0, inputs: {data: prompts/rl}, curate: {steps: [{step: exact_dedup}]}}"
    words = [f"+stages.curate={stage}", "stages.grpo.inputs.data=curate/rl"]
    assert "lengths of curate/rl are told once it is made" in "\n".join(told(*words)["lines"])
    recipe = validate(compose_recipe("own", ["run=r", *words]))
    prompts: Any = recipe.stages["prompts"]
    rl = build_splits(prompts.task, prompts.splits, prompts.seed).splits["rl"]
    write_rows(project / "runs/r/curate/rl", rl[:7], PROMPT_SCHEMA)
    made = Manifest(stage="curate", kind="curate", key="k", identity={}, status="done")
    made.outputs["rl"] = {"path": "rl", "kind": "rl", "hash": "h", "rows": 7}
    made.save(project / "runs/r/curate")
    assert "7 prompts: " in "\n".join(told(*words)["lines"])
