"""`parallel=` on the command line: which stages it reaches, what is refused; it is no part of a stage's key."""

from __future__ import annotations

import pytest

from openr1.config.compose import compose_recipe
from openr1.config.recipe import Recipe, validate
from openr1.errors import UserError
from openr1.launch.key import identity_of
from openr1.stages.settings import GRPOStage, SFTStage

TWO = ["parallel=ddp", "parallel.processes=2"]


def recipe(*words: str) -> Recipe:
    return validate(compose_recipe("tiny", ["run=x", *words]))


def test_the_group_reaches_every_training_stage_and_a_key_reaches_one() -> None:
    stages = recipe(*TWO, "stages.grpo.parallel.kind=zero2").stages
    trained = {name: s for name, s in stages.items() if isinstance(s, SFTStage | GRPOStage)}
    assert {name: (s.parallel.kind, s.world_size) for name, s in trained.items()} == {
        "sft": ("ddp", 2),
        "grpo": ("zero2", 2),
        "grpo_control": ("ddp", 2),
    }


def test_how_a_batch_is_split_is_not_in_the_key_its_size_is() -> None:
    one = recipe().stages["grpo"]
    half = "stages.grpo.train.per_device_train_batch_size=64"
    assert identity_of(recipe(*TWO, half).stages["grpo"]) == identity_of(one)
    assert identity_of(recipe(*TWO).stages["grpo"]) != identity_of(one)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["parallel=ddp"], r"stages.sft.parallel: ddp on one process is single; set parallel.processes"),
        (["parallel=dpp"], "parallel=dpp does not exist; did you mean ddp"),
        (["parallel.processes=2"], "stages.sft.parallel: kind single is one process, processes is 2"),
        ([*TWO, "stages.grpo.resources.gpus=4"], "stages.grpo.parallel: 2 processes, and resources of 1 x 4 GPUs"),
        (
            ["stages.sft.parallel.kind=zero3", "stages.sft.parallel.processes=2"],
            "stages.sft.parallel: stop_at asks a whole model, zero3 spreads it",
        ),
        (
            [*TWO, "stages.grpo.train.per_device_train_batch_size=3"],
            r"stages.grpo.train: .*3 x 2 processes = 6 completions a generation do not divide into groups",
        ),
        (["stages.grpo.train.deepspeed=x.json"], "train.deepspeed: not to be set here; use the stage's `parallel`"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        recipe(*words)
