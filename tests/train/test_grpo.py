"""GRPO through TRL's own trainer: masking, the rollouts, the control, the prefill, the metrics."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from train_helpers import make_prompt

from openr1.errors import UserError
from openr1.metrics import known_metric, read_metrics
from openr1.records import Prompt
from openr1.rewards import PartSettings, RewardSettings
from openr1.train import rollouts
from openr1.train.account import TrainResult
from openr1.train.grader import shuffled

Run = Callable[..., TrainResult]
ONE_GROUP = {"per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 1}


def test_a_masked_row_has_no_advantage_and_leaves_the_baseline_of_the_others(grpo: Run, tmp_path: Path) -> None:
    """Law 1: accuracy masked in one row of a group of 4 where format is 1.0 everywhere (TRAPS 36)."""
    reward = RewardSettings(
        parts={
            "accuracy": PartSettings(function="train_helpers:masked_second"),
            "format": PartSettings(function="train_helpers:always_one"),
        }
    )
    grpo("run", settings={"reward": reward}, **ONE_GROUP)
    rows = rollouts.read(tmp_path / "run").to_pylist()
    assert [r["part/accuracy"] for r in rows] == [0.0, None, 1.0, 1.0]
    assert [r["part/format"] for r in rows] == [1.0] * 4
    assert [r["total"] for r in rows] == [1.0, None, 2.0, 2.0]
    assert rows[1]["advantage"] == 0.0
    others = [1.0, 2.0, 2.0]
    mean, spread = statistics.fmean(others), statistics.stdev(others)
    expected = [(x - mean) / (spread + 1e-4) for x in others]
    assert [rows[i]["advantage"] for i in (0, 2, 3)] == pytest.approx(expected, abs=1e-5)
    line = read_metrics(tmp_path / "run/metrics.jsonl")[0]
    assert line["masked"] == 0.25 and line["reward"] == pytest.approx(5 / 3) and line["reward/format"] == 1.0


def test_general_prompts_have_preference_rewards_from_a_step_on(
    grpo: Run, tmp_path: Path, prompts: list[Prompt], caplog: pytest.LogCaptureFixture
) -> None:
    """Prompts of two types in one run: each has its own parts, and the preference counts from step 3 on only."""
    general = [Prompt("g", p.messages, None, "math").of_type("general") for p in prompts]
    reward = RewardSettings(
        parts={
            "varied": PartSettings(function="train_helpers:varied"),
            "accuracy": PartSettings(),
            "liked": PartSettings(function="train_helpers:varied", prompts=["general"], from_step=3),
        }
    )
    with caplog.at_level(logging.WARNING, "openr1"):
        grpo("run", settings={"prompts": prompts + general, "reward": reward})
    asked = {p.prompt_id: p.type for p in prompts + general}
    rows = rollouts.read(tmp_path / "run").to_pylist()
    kinds = {(asked[r["prompt_id"]], r["step"] >= 3) for r in rows}
    assert len(kinds) == 4, "both types before and after"
    for row in rows:
        kind, liked = asked[row["prompt_id"]], row["step"] >= 3
        assert (row["part/accuracy"] is None) == (kind == "general")
        assert (row["part/liked"] is None) == (kind == "reasoning" or not liked)
        assert row["total"] == pytest.approx(sum(row[f"part/{p}"] or 0.0 for p in reward.parts))
        assert (row["status"] is None) == (kind == "general")
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert all("reward/liked" not in line for line in lines[:2]) and all(line["masked"] == 0 for line in lines)


def test_a_group_masked_throughout_trains_nothing(grpo: Run, tiny: Path, tmp_path: Path) -> None:
    """A verifier whose gold is bad masks every row: no advantage, so no change of the weights without decay."""
    bad = [make_prompt(1, 2, answer="\\frac{1}{") for _ in range(1)]
    grpo("run", settings={"prompts": bad, "reward": RewardSettings()}, **ONE_GROUP)
    rows = rollouts.read(tmp_path / "run").to_pylist()
    assert {r["status"] for r in rows} == {"bad_gold"} and {r["advantage"] for r in rows} == {0.0}
    from safetensors.torch import load_file

    before, after = (load_file(f / "model.safetensors") for f in (tiny, tmp_path / "run/model"))
    assert all(before[name].equal(after[name]) for name in before)


def test_every_rollout_of_every_step_is_kept(grpo: Run, tmp_path: Path, prompts: list[Prompt]) -> None:
    result = grpo("run")
    table = rollouts.read(tmp_path / "run").to_pylist()
    assert len(table) == 5 * 8 and {r["sample_index"] for r in table} == {0, 1, 2, 3}
    by_id = {p.prompt_id: p for p in prompts}
    for row in table:
        assert by_id[row["prompt_id"]].question in row["prompt"] and row["prompt"].endswith("assistant\n")
        assert row["total"] == pytest.approx(row["part/accuracy"] + 0.5 * row["part/varied"])
        assert row["finish_reason"] in ("stop", "length") and 1 <= row["completion_tokens"] <= 8
        assert (row["finish_reason"] == "length") <= (row["completion_tokens"] == 8)
    assert result.tokens["generated"] == sum(r["completion_tokens"] for r in table)
    assert result.tokens["prompt"] == sum(r["prompt_tokens"] for r in table)
    assert result.tokens["trained"] == result.tokens["generated"] + result.tokens["prompt"]
    n = result.parameters  # the embedding is tied to the head, so N is all of them
    assert result.flops == 6 * n * result.tokens["trained"] + 2 * n * result.tokens["trained"]


def test_every_step_has_its_metrics(grpo: Run, tmp_path: Path) -> None:
    result = grpo("run")
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    expected = {
        "loss", "grad_norm", "learning_rate", "entropy", "reward", "reward_std", "reward/accuracy", "reward/varied",
        "masked", "zero_variance_groups", "completion_tokens", "truncated", "seconds/generate", "seconds/grade",
        "seconds/train", "seconds/step", "tokens",
    }  # fmt: skip
    for line in lines:
        assert expected <= set(line) and all(known_metric(name) for name in line if name != "time"), line
        parts = line["seconds/generate"] + line["seconds/grade"] + line["seconds/train"]
        assert parts == pytest.approx(line["seconds/step"])
    rows = [r for r in rollouts.read(tmp_path / "run").to_pylist() if r["step"] == 2]
    assert lines[1]["reward"] == pytest.approx(statistics.fmean(r["total"] for r in rows))
    groups = [[r["total"] for r in rows[i : i + 4]] for i in (0, 4)]
    assert lines[1]["reward_std"] == pytest.approx(statistics.fmean(statistics.stdev(g) for g in groups))
    assert {"generate", "grade", "train"} <= set(result.phases) and result.stopped == "all 5 steps done"


def test_the_control_shuffles_totals_across_the_batch_and_keeps_the_parts(grpo: Run, tmp_path: Path) -> None:
    grpo("control", settings={"shuffle_rewards": True})
    rows = [r for r in rollouts.read(tmp_path / "control").to_pylist() if r["step"] == 1]
    assert [r["reward"] for r in rows] == shuffled([r["total"] for r in rows], 1, 1)
    assert [r["reward"] for r in rows] != [r["total"] for r in rows]
    for row in rows:
        assert row["total"] == pytest.approx(row["part/accuracy"] + 0.5 * row["part/varied"])
    first = [r["reward"] for r in rows[:4]]
    mean, spread = statistics.fmean(first), statistics.stdev(first)
    assert rows[0]["advantage"] == pytest.approx((first[0] - mean) / (spread + 1e-4), abs=1e-4)


def test_shuffling_repeats_for_a_step_and_differs_between_steps() -> None:
    totals: list[float | None] = [float(i) for i in range(32)]
    assert shuffled(totals, 0, 1) == shuffled(totals, 0, 1) != shuffled(totals, 0, 2)
    assert sorted(x for x in shuffled(totals, 0, 3) if x is not None) == totals


def test_a_prefill_belongs_to_the_prompt_and_to_the_text(grpo: Run, tmp_path: Path) -> None:
    grpo("run", settings={"prefill": "<think>"}, max_steps=1)
    rows = rollouts.read(tmp_path / "run").to_pylist()
    assert all(r["prompt"].endswith("assistant\n<think>") and r["completion"].startswith("<think>") for r in rows)
    assert 'add_generation_prompt %}{{ "<think>' not in (tmp_path / "run/model/chat_template.jinja").read_text()


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.05}])
def test_prompt_tokens_are_those_that_the_trainer_read(grpo: Run, tmp_path: Path, options: dict[str, Any]) -> None:
    """With our engine and with TRL's own generation, a prefill is rendered and counted alike."""
    result = grpo("run", settings={"prefill": "<think>"}, max_steps=1, **options)
    rows = rollouts.read(tmp_path / "run").to_pylist()
    # <|im_start|> user \n 1 + 1 <|im_end|> \n <|im_start|> assistant \n <think>
    assert {r["prompt_tokens"] for r in rows} == {12}
    assert result.tokens["prompt"] == sum(r["prompt_tokens"] for r in rows)


def test_the_first_batch_is_diagnosed(grpo: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "openr1"):
        grpo("run", max_steps=2)
    assert sum("'accuracy' is 0 for all 8 completions" in r.message for r in caplog.records) == 1


def test_the_final_folder_is_a_model_that_stops(grpo: Run, tmp_path: Path) -> None:
    from openr1.models.chat import check_template
    from openr1.models.source import load_model, load_tokenizer, resolve

    grpo("run", max_steps=1)
    folder = resolve(str(tmp_path / "run/model"))
    tokenizer = load_tokenizer(folder)
    assert check_template(tokenizer, folder) == []
    assert load_model(folder).generation_config.eos_token_id == tokenizer.eos_token_id


def test_too_few_prompts_and_prompts_without_room_are_named(grpo: Run, prompts: list[Prompt]) -> None:
    with pytest.raises(UserError, match="1 prompts.*one generation takes 2"):
        grpo("a", settings={"prompts": prompts[:1]})
    with pytest.raises(UserError, match=r"16 too_long.*context of 96"):
        grpo("b", max_completion_length=90)
    with pytest.raises(UserError) as e:
        grpo("c", per_device_train_batch_size=6, learning_rat=1)
    assert "did you mean learning_rate" in str(e.value)


def test_a_reward_that_raises_is_named_with_the_completion(grpo: Run) -> None:
    reward = RewardSettings(parts={"bad": PartSettings(function="train_helpers:raising")})
    with pytest.raises(UserError, match="reward 'bad' raised ZeroDivisionError.*completion"):
        grpo("run", settings={"reward": reward})
