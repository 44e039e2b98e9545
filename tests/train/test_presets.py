"""Every algorithm preset does what its paper says: advantages and losses worked out by hand, through our trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml

from openr1.paths import data_dir
from openr1.rewards import PartSettings, RewardBatch, RewardSettings
from openr1.train import rollouts
from openr1.train.account import Account, TrainResult
from openr1.train.settings import ParallelSettings
from openr1.train.trainer import open_model, training_arguments
from openr1.train.trl_internals import WholeGRPOTrainer

Run = Callable[..., TrainResult]
FOLDER = data_dir("recipes") / "algorithm"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SMALL: dict[str, Any] = {"num_generations": 4, "max_steps": 1}


def preset(name: str, rows: int) -> dict[str, Any]:
    """The arguments of a preset, with `rows` completions a generation."""
    told: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    steps = told.get("steps_per_generation", 1)
    return told | SMALL | {"per_device_train_batch_size": rows // steps}


# -------------------------------------------------------------------------------------------------------- advantages
def two_groups(batch: RewardBatch) -> list[float | None]:
    """A group with a masked row, and one of another spread."""
    return [(0.0, None, 1.0, 1.0, 0.0, 2.0, 0.0, 0.0)[i] for i in range(len(batch))]


# means 2/3 (of three rows) and 1/2; deviations with n - 1: sqrt(1/3) = 0.577350 and 1; of all seven rows 0.786796
CENTRED = [-2 / 3, 0.0, 1 / 3, 1 / 3, -0.5, 1.5, -0.5, -0.5]
BY_GROUP = [-1.154500, 0.0, 0.577250, 0.577250, -0.499950, 1.499850, -0.499950, -0.499950]
BY_BATCH = [-0.847211, 0.0, 0.423606, 0.423606, -0.635408, 1.906225, -0.635408, -0.635408]
ADVANTAGES = {
    "grpo": BY_GROUP, "dapo": BY_GROUP, "gspo": BY_GROUP, "r1": BY_GROUP, "trl": BY_GROUP,
    "dr_grpo": CENTRED, "cispo": BY_BATCH,
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_advantages_are_those_of_the_paper_and_a_masked_row_has_none(name: str, grpo: Run, tmp_path: Path) -> None:
    reward = RewardSettings(parts={"given": PartSettings(function=f"{__name__}:two_groups")})
    grpo("run", settings={"reward": reward}, **preset(name, rows=8))
    found = [row["advantage"] for row in rollouts.read(tmp_path / "run").to_pylist()]
    assert found == pytest.approx(ADVANTAGES[name], abs=2e-5)


# ------------------------------------------------------------------------------------------------------------ losses
# Two completions, of three tokens and of one, with advantages 1 and -1/2. The ratios of new to old probabilities are
# 12, 2, 1/2 and 1.1; the reference gives the only token of the second twice the probability of the policy.
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])
LOGPS = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -1.0, -1.0]])
RATIOS = torch.tensor([[12.0, 2.0, 0.5], [1.1, 1.0, 1.0]])
REFERENCE = LOGPS + torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0]])
ADVANTAGE = torch.tensor([1.0, -0.5])
KL = 2 - math.log(2) - 1  # of that one token, Schulman's k3
LOSSES = {
    # mean over rows of the mean over tokens; ratios clipped at 1.2 where that is less
    "grpo": -((1.2 + 1.2 + 0.5) / 3 - 0.55) / 2 + 0.04 * KL / 2,
    # the same, clipped at 11
    "r1": -((11 + 2 + 0.5) / 3 - 0.55) / 2 + 0.001 * KL / 2,
    # one mean over the four tokens
    "trl": -(1.2 + 1.2 + 0.5 - 0.55) / 4,
    # the same, clipped at 1.28 upwards
    "dapo": -(1.28 + 1.28 + 0.5 - 0.55) / 4,
    # a sum over rows x the 8 tokens that a completion may have
    "dr_grpo": -(1.2 + 1.2 + 0.5 - 0.55) / (2 * 8),
    # one ratio a row: (12 x 2 / 2) to the power of 1/3, clipped at 1 + 4e-4; the second row's is not, A being negative
    "gspo": -((1 + 4e-4) * 1 - 1.1 * 0.5) / 2,
    # weights (at most 5) x A x log-probability, a mean over tokens
    "cispo": -(5 * -1 + 2 * -2 + 0.5 * -0.5 + 1.1 * -0.5 * -3) / 4,
}


@pytest.fixture
def trainer_of(tiny: Path, tmp_path: Path) -> Callable[[str], Any]:
    """Our trainer with a preset's arguments, whose model gives the log-probabilities above whatever it is asked."""

    def make(name: str) -> Any:
        train = preset(name, rows=4) | {"max_completion_length": 8}
        arguments = training_arguments("grpo", train, tmp_path, 0)
        model, tokenizer = open_model(tiny, train, None)
        trainer = WholeGRPOTrainer(
            model=model, reward_funcs=[lambda **_: [0.0] * 4], args=arguments, processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list([{"prompt": [{"role": "user", "content": "1+1"}]}]),
            account=Account(), keep=None, parallel=ParallelSettings(), on_scored=lambda advantages: None,
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        logps = LOGPS.clone().requires_grad_()
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, torch.zeros_like(LOGPS), None)
        return trainer, logps

    return make


def loss_of(trainer: Any, advantages: torch.Tensor = ADVANTAGE) -> torch.Tensor:
    steps = trainer.args.steps_per_generation
    inputs = {
        "prompt_ids": torch.ones(2, 1, dtype=torch.long), "prompt_mask": torch.ones(2, 1, dtype=torch.long),
        "completion_ids": torch.ones(2, 3, dtype=torch.long), "completion_mask": MASK, "advantages": advantages,
        "old_per_token_logps": LOGPS - RATIOS.log(), "ref_per_token_logps": REFERENCE,
        "num_items_in_batch": torch.tensor(4 * steps),
    }  # fmt: skip
    loss: torch.Tensor = trainer._compute_loss(trainer.model.train(), inputs)
    return loss


@pytest.mark.parametrize("name", PRESETS)
def test_losses_are_those_of_the_paper(name: str, trainer_of: Callable[[str], Any]) -> None:
    trainer, _ = trainer_of(name)
    assert loss_of(trainer).item() == pytest.approx(LOSSES[name], abs=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_without_advantage_moves_nothing_but_the_kl_term(name: str, trainer_of: Callable[[str], Any]) -> None:
    trainer, logps = trainer_of(name)
    loss_of(trainer, torch.tensor([-1.0, 0.0])).backward()
    beta = trainer.beta
    # d k3 / d logp = 1 - ref/policy = -1, halved by the mean over rows
    assert logps.grad[1].tolist() == pytest.approx([beta * -1 / 2, 0.0, 0.0], abs=1e-6)
    assert logps.grad[0].abs().sum() > 0
