"""Guards: what they warn of and stop for, counted the same across a resume."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from train_helpers import REWARD, Killed

from openr1.errors import UserError
from openr1.metrics import known_metric, read_metrics
from openr1.rewards import PartSettings, RewardSettings
from openr1.train.account import TrainResult
from openr1.train.guards import Guards
from openr1.train.settings import GRPOSettings, Guard, GuardSettings, SFTGuardSettings, SFTSettings

Train = Callable[..., TrainResult]
CONSTANT = RewardSettings(parts={"same": PartSettings(weight=1.0, function="train_helpers:always_one")})

WELL = {"loss": 0.1, "grad_norm": 1.0, "zero_variance_groups": 0.2, "reward_spread": 0.4, "truncated": 0.1}
WELL |= {"entropy": 1.0, "completion_tokens": 100.0, "logprob_gap": 0.01, "logprob_tail": 0.5}
ILL: dict[str, tuple[str, float]] = {
    "non_finite": ("grad_norm", float("nan")),
    "logprob_gap": ("logprob_gap", 0.5),
    "logprob_tail": ("logprob_tail", 30.0),
    "zero_variance": ("zero_variance_groups", 1.0),
    "constant_reward": ("reward_spread", 0.0),
    "truncation": ("truncated", 0.9),
    "entropy": ("entropy", 0.001),
    "entropy_drop": ("entropy", 0.15),
    "length_growth": ("completion_tokens", 1000.0),
}


def fed(settings: SFTGuardSettings, rows: list[dict[str, float]]) -> Guards:
    guards = Guards(settings)
    for step, row in enumerate(rows, 1):
        guards.look(step, row)
    return guards


@pytest.mark.parametrize("name", GuardSettings.model_fields)
def test_each_guard_warns_by_default_and_stops_only_when_told(name: str, caplog: pytest.LogCaptureFixture) -> None:
    metric, value = ILL[name]
    rows = [WELL] * 10 + [WELL | {metric: value}] * 10
    with caplog.at_level(logging.WARNING, logger="openr1"):
        found = fed(GuardSettings(), rows).results()
    patience = getattr(GuardSettings(), name).patience
    assert found[name]["warned"] > 0
    assert found[name]["first_step"] == 10 + patience
    assert len([r for r in caplog.records if f"guard {name}:" in r.message]) == 1  # not one a step
    for other in set(found) - {name, "entropy_drop"}:
        assert found[other]["warned"] == 0, other

    bound = getattr(GuardSettings(), name).warn
    told = GuardSettings(**{name: {"stop": bound}})
    with pytest.raises(UserError, match=f"guard {name} stopped training at step {10 + patience}: .*guards.{name}"):
        fed(told, rows)


def test_patience_is_steps_in_a_row() -> None:
    settings = GuardSettings(truncation=Guard(warn=None, stop=0.5, patience=3))
    ill = WELL | {"truncated": 0.9}
    fed(settings, [ill, ill, WELL, ill, ill, WELL])
    with pytest.raises(UserError, match="at step 5: 0.9 .* the bound is 0.5 for 3 steps"):
        fed(settings, [ill, WELL, ill, ill, ill])


def test_what_is_not_measured_is_said_to_be_so() -> None:
    row = {k: v for k, v in WELL.items() if not k.startswith("logprob")}
    found = fed(GuardSettings(), [row] * 3).results()
    assert found["logprob_gap"] == {"warned": 0, "first_step": None, "worst": None, "measured": 0}
    assert found["truncation"] == {"warned": 0, "first_step": None, "worst": 0.1, "measured": 3}


def test_growth_that_is_slow_is_no_explosion() -> None:
    rows = [WELL | {"completion_tokens": 10 * 1.02**step} for step in range(400)]  # 10 to 27,000 tokens
    assert fed(GuardSettings(), rows).results()["length_growth"]["warned"] == 0


def test_a_guard_written_in_part_keeps_its_other_defaults() -> None:
    guard = GuardSettings.model_validate({"truncation": {"stop": 0.8}}).truncation
    assert guard == Guard(warn=0.5, stop=0.8, patience=5)
    with pytest.raises(ValueError, match="entropy: stop 0.5 comes before warn 0.01"):
        GuardSettings.model_validate({"entropy": {"stop": 0.5}})
    with pytest.raises(ValueError, match="truncation: stop 0.1 comes before warn 0.5"):
        GuardSettings.model_validate({"truncation": {"stop": 0.1}})


def test_guards_are_no_part_of_the_key() -> None:
    plain = GRPOSettings(train={}, reward=REWARD).identity()
    watched = GRPOSettings(train={}, reward=REWARD, guards=GuardSettings(entropy=Guard()), watchdog_minutes=None)
    assert watched.identity() == plain
    assert "guards" not in SFTSettings(train={}).identity()


def test_a_constant_reward_stops_training_and_the_same_command_goes_on(grpo: Train, tmp_path: Path) -> None:
    stop = {"guards": {"constant_reward": {"stop": 0.0, "patience": 3}}, "reward": CONSTANT}
    with pytest.raises(UserError, match="guard constant_reward stopped training at step 3: 0 standard deviation"):
        grpo("run", settings=stop)
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [1, 2, 3]
    with pytest.raises(UserError, match="at step 3"):  # the two steps before the checkpoint count
        grpo("run", settings=stop)
    result = grpo("run", settings={"reward": CONSTANT})
    assert result.guards["constant_reward"] == {"warned": 3, "first_step": 3, "worst": 0.0, "measured": 5}
    assert result.guards["logprob_gap"]["measured"] == 0


def test_counts_are_the_same_across_a_kill(grpo: Train) -> None:
    settings: dict[str, Any] = {"reward": CONSTANT}
    whole = grpo("whole", settings=settings).guards
    with pytest.raises(Killed):
        grpo("killed", kill=4, settings=settings)
    assert grpo("killed", settings=settings).guards == whole


def test_a_loss_that_is_not_finite_is_seen(sft: Train, tmp_path: Path) -> None:
    result = sft("run", learning_rate=1e30, max_grad_norm=0.0)
    assert result.guards["non_finite"]["warned"] > 0
    with pytest.raises(UserError, match="NaN or infinite.*Lower train.learning_rate"):
        sft("stopped", settings={"guards": {"non_finite": {"stop": 1}}}, learning_rate=1e30, max_grad_norm=0.0)
    assert not (tmp_path / "stopped/model").exists()


def test_a_step_tells_where_its_time_went(grpo: Train, tmp_path: Path) -> None:
    result = grpo("run")
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    for row in rows:
        assert all(known_metric(name) for name in row if name != "time")
        parts = row["seconds/generate"] + row["seconds/grade"] + row["seconds/train"]
        assert parts == pytest.approx(row["seconds/step"])
        assert 0 <= row["speed/idle_share"] < 1
        assert row["speed/idle_share"] == pytest.approx(row["seconds/grade"] / row["seconds/step"])
        assert row["speed/rollout_tokens_per_second"] > 0
        assert row["speed/trained_tokens_per_second"] > 0
        assert "speed/mfu" not in row  # there is no GPU
        assert "seconds/wait" not in row  # one process waits for nobody
    seconds = sum(row["seconds/step"] for row in rows)
    assert result.profile["trained_tokens_per_second"] == pytest.approx(result.tokens["trained"] / seconds, rel=0.01)
    assert result.profile["mfu"] is None
