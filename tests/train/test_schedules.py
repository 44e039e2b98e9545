"""What changes while GRPO trains: the order of prompts by pass rate, the limit of tokens, the reference model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from train_helpers import Killed, make_prompt

from openr1.errors import UserError
from openr1.metrics import read_metrics
from openr1.models.source import load_model
from openr1.records import Prompt
from openr1.rewards import PartSettings, RewardSettings
from openr1.train import rollouts
from openr1.train.account import TrainResult
from openr1.train.curriculum import PromptOrder
from openr1.train.settings import CurriculumSettings, GRPOSettings, LengthStepSettings

Run = Callable[..., TrainResult]
PROMPTS = [make_prompt(1, i) for i in range(100)]
RATES: dict[str, float | None] = {p.prompt_id: i % 10 / 10 for i, p in enumerate(PROMPTS)}
VARIED = RewardSettings(parts={"varied": PartSettings(function="train_helpers:varied")})


def same_model(one: Path, other: Path) -> bool:
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def killed_and_resumed(run: Run, tmp_path: Path, kills: list[int], settings: dict[str, Any], **train: Any) -> None:
    """The same run whole, and ended by force after some steps: equal bytes, equal rollouts."""
    run("whole", settings=settings, **train)
    for step in kills:
        with pytest.raises(Killed):
            run("killed", settings=settings, kill=step, **train)
    run("killed", settings=settings, **train)
    assert same_model(tmp_path / "whole/model", tmp_path / "killed/model")
    assert rollouts.read(tmp_path / "whole").equals(rollouts.read(tmp_path / "killed"))


# --------------------------------------------------------------------------------------------------------- curriculum
def rates_of(settings: CurriculumSettings, seed: int = 0, count: int = 100) -> list[float]:
    rows = PromptOrder(PROMPTS, seed, settings, RATES).run(0, count)
    return [RATES[PROMPTS[row].prompt_id] or 0.0 for row in rows]


def test_without_spread_pass_rates_fall_or_rise() -> None:
    easy = rates_of(CurriculumSettings(spread=0))
    assert easy == sorted(easy, reverse=True) and easy[0] == 0.9
    assert rates_of(CurriculumSettings(order="hard_to_easy", spread=0)) == easy[::-1]


def test_a_band_moves_through_the_difficulties() -> None:
    rates = rates_of(CurriculumSettings(spread=0.3))
    assert rates != sorted(rates, reverse=True)
    means = [sum(rates[i : i + 20]) / 20 for i in range(0, 100, 20)]
    assert means == sorted(means, reverse=True)
    for i in range(90):
        window = rates[i : i + 10]
        assert max(window) - min(window) <= 0.3 + 0.1 + 1e-9


def test_every_prompt_comes_once_a_pass_in_an_order_of_the_seed() -> None:
    settings = CurriculumSettings(spread=0)

    def rows(seed: int, count: int) -> list[int]:
        return PromptOrder(PROMPTS, seed, settings, RATES).run(0, count)

    assert rows(1, 200) == rows(1, 200) != rows(2, 200)
    assert sorted(rows(1, 200)[:100]) == sorted(rows(1, 200)[100:]) == list(range(100))
    assert rows(1, 200)[:100] != rows(1, 200)[100:]
    short = rates_of(settings, count=30)
    assert short == sorted(short, reverse=True) and short[0] >= 0.8 and short[-1] <= 0.1, "a draw of all difficulties"


def test_prompts_without_a_rate_stand_anywhere_and_some_rate_is_needed() -> None:
    half = {name: rate if i % 2 else None for i, (name, rate) in enumerate(RATES.items())}
    rows = PromptOrder(PROMPTS, 0, CurriculumSettings(spread=0), half).run(0, 100)
    places = [place for place, row in enumerate(rows) if half[PROMPTS[row].prompt_id] is None]
    assert places[0] < 20 and places[-1] > 80
    with pytest.raises(UserError, match="no prompt has a measured pass rate"):
        PromptOrder(PROMPTS, 0, CurriculumSettings(), {})


def test_general_prompts_join_at_their_step_and_a_resume_agrees(
    grpo: Run, tmp_path: Path, prompts: list[Prompt]
) -> None:
    """Two steps learn from a generation, so that of steps 5 and 6 is the first with general prompts of step 4."""
    general = [Prompt("g", p.messages, None, "math").of_type("general") for p in prompts]
    settings = {"prompts": prompts + general, "reward": VARIED, "general_from_step": 4}
    cycle = {"steps_per_generation": 2, "per_device_train_batch_size": 4, "save_steps": 1, "max_steps": 12}
    killed_and_resumed(grpo, tmp_path, [3, 8], settings, **cycle)
    kinds = {p.prompt_id: p.type for p in prompts + general}
    rows = rollouts.read(tmp_path / "whole").to_pylist()
    asked = {step: [kinds[r["prompt_id"]] for r in rows if r["step"] == step] for step in range(1, 13, 2)}
    assert {kind for step in (1, 3) for kind in asked[step]} == {"reasoning"}
    assert {kind for step in (5, 7, 9, 11) for kind in asked[step]} == {"reasoning", "general"}


def test_a_run_goes_from_easy_to_hard_and_resumes_in_the_middle(
    grpo: Run, tmp_path: Path, prompts: list[Prompt]
) -> None:
    rates = {p.prompt_id: 1 - i / len(prompts) for i, p in enumerate(prompts)}
    settings = {"curriculum": CurriculumSettings(spread=0), "pass_rates": rates, "reward": VARIED}
    killed_and_resumed(grpo, tmp_path, [3, 7], settings, max_steps=10)
    asked = [row["prompt_id"] for row in rollouts.read(tmp_path / "whole").to_pylist()]
    found = [rates[name] for name in asked]
    assert found[: 8 * 8] == sorted(found[: 8 * 8], reverse=True), "an epoch of 16 prompts, 2 a step"
    assert found[64] > 0.5, "the second epoch begins with easy ones again, a draw since it is cut off"
    logged = [line["pass_rate"] for line in read_metrics(tmp_path / "whole/metrics.jsonl")]
    assert logged[:8] == sorted(logged[:8], reverse=True) and logged[0] == pytest.approx(sum(found[:8]) / 8)


# ------------------------------------------------------------------------------------------------------ token limits
LENGTHS = [LengthStepSettings(from_step=3, max_completion_length=12)]


def test_the_limit_grows_at_its_step(grpo: Run, tmp_path: Path) -> None:
    grpo("whole", settings={"length_schedule": LENGTHS, "reward": VARIED})
    rows = rollouts.read(tmp_path / "whole").to_pylist()
    longest = {step: max(r["completion_tokens"] for r in rows if r["step"] == step) for step in range(1, 6)}
    assert longest == {1: 8, 2: 8, 3: 12, 4: 12, 5: 12}
    assert all((r["completion_tokens"] == longest[r["step"]]) >= (r["finish_reason"] == "length") for r in rows)


def test_a_limit_changes_with_a_generation_and_not_within_one(grpo: Run, tmp_path: Path) -> None:
    """Two steps learn from a generation: that of steps 3 and 4 is the first with the new limit of step 2."""
    settings = {"length_schedule": [LengthStepSettings(from_step=2, max_completion_length=12)], "reward": VARIED}
    cycle = {"steps_per_generation": 2, "save_steps": 1, "loss_type": "dr_grpo", "per_device_train_batch_size": 4}
    killed_and_resumed(grpo, tmp_path, [1, 3, 4], settings, **cycle)
    rows = rollouts.read(tmp_path / "whole").to_pylist()
    longest = {
        step: max(r["completion_tokens"] for r in rows if r["step"] == step) for step in {r["step"] for r in rows}
    }
    assert longest == {1: 8, 3: 12, 5: 12}


def test_trls_own_generation_keeps_to_the_limit(grpo: Run, tmp_path: Path) -> None:
    grpo("run", settings={"length_schedule": LENGTHS, "reward": VARIED}, repetition_penalty=1.01, max_steps=4)
    rows = rollouts.read(tmp_path / "run").to_pylist()
    assert {step: max(r["completion_tokens"] for r in rows if r["step"] == step) for step in (2, 3)} == {2: 8, 3: 12}


def test_prompts_need_room_beside_the_longest_completion(grpo: Run) -> None:
    longer = [LengthStepSettings(from_step=3, max_completion_length=90)]
    with pytest.raises(UserError, match=r"16 too_long.*context of 96"):
        grpo("run", settings={"length_schedule": longer})


def test_a_schedule_goes_forward() -> None:
    steps = [{"from_step": 9, "max_completion_length": 3}, {"from_step": 5, "max_completion_length": 4}]
    with pytest.raises(ValidationError, match="from_step goes 9, 5; write them ascending"):
        GRPOSettings.model_validate({"train": {}, "reward": {}, "length_schedule": steps})
    settings = GRPOSettings.model_validate({"train": {}, "reward": {}, "length_schedule": steps[::-1]})
    assert [settings.max_new_tokens(s) for s in (4, 5, 8, 9)] == [settings.max_new_tokens(1), 4, 4, 3]
    assert settings.longest() == settings.max_new_tokens(1) == 512, "what TRL does where nothing is said"


# --------------------------------------------------------------------------------------------------------- reference
REFRESH = {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 1.0}


def test_the_reference_is_the_policy_again_after_a_refresh(grpo: Run, tmp_path: Path) -> None:
    grpo("run", settings={"reward": VARIED}, learning_rate=1e-2, **REFRESH)
    kl = [line["kl"] for line in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert kl[0] == pytest.approx(0, abs=1e-7) and kl[2] == pytest.approx(0, abs=1e-7)
    assert kl[1] > 1e-6 and kl[3] > 1e-6
    kept = torch.load(tmp_path / "run/checkpoint-4/reference.pt", weights_only=True)
    policy = load_model(tmp_path / "run/checkpoint-4").state_dict()
    assert all(torch.equal(kept[name], policy[name]) for name in policy)


def test_a_resume_goes_on_with_the_refreshed_reference(grpo: Run, tmp_path: Path) -> None:
    settings = {"reward": VARIED}
    killed_and_resumed(grpo, tmp_path, [1, 4], settings, learning_rate=1e-2, save_steps=1, **REFRESH)
    kept = [(tmp_path / f"whole/checkpoint-{step}/reference.pt").exists() for step in range(1, 6)]
    assert kept == [False, True, True, True, True], "until the first refresh it is the model of the stage"


def test_a_refresh_without_a_reference_is_refused_in_one_line(grpo: Run) -> None:
    with pytest.raises(UserError) as found:
        grpo("run", **(REFRESH | {"beta": 0.0}))
    assert found.value.problems == ["train: sync_ref_model refreshes a reference model, and beta 0 has none; set beta"]
