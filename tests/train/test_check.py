"""The `train:` block is checked against TRL's own fields: every problem at once, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openr1.train import fields
from openr1.train.check import CHOICES, RESERVED, train_problems


def test_the_table_is_that_of_the_installed_versions() -> None:
    installed = fields.installed()
    for kind in ("sft", "grpo"):
        assert fields.table()[kind] == installed[kind], "run `python -m openr1.train.fields`"
    assert fields.table()["trl"].rsplit(".", 1)[0] == installed["trl"].rsplit(".", 1)[0]


def test_reserved_names_and_choices_exist_in_trl() -> None:
    known = fields.fields("sft") | fields.fields("grpo")
    assert [name for name in RESERVED if name not in known and name != "logging_dir"] == []
    import inspect

    import trl.trainer.grpo_trainer as grpo
    import trl.trainer.sft_trainer as sft

    for module, kind in ((sft, "sft"), (grpo, "grpo")):
        source = inspect.getsource(module) + inspect.getsource(sys.modules[module.__name__.replace("trainer", "config")
            .replace("trl.config", "trl.trainer")])  # fmt: skip
        for name, values in CHOICES[kind].items():  # type: ignore[index]
            for value in values:
                assert f'"{value}"' in source or f"'{value}'" in source or f"`{value}`" in source, (name, value)


def test_every_problem_is_found_at_once() -> None:
    problems = train_problems(
        "sft",
        {"learning_rte": 9.0, "learning_rate": "1e-6", "seed": 1, "max_steps": 1.5, "lr_scheduler_type": "cosin"},
    )
    text = "\n".join(problems)
    assert len(problems) == 5
    assert "train.learning_rte: no argument of trl.SFTConfig; did you mean learning_rate?" in text
    assert "train.learning_rate: '1e-6' is text, expected float; write it without quotes" in text
    assert "train.seed: not to be set here; use the stage's or the recipe's `seed`" in text
    assert "train.max_steps: 1.5 is a number, expected int" in text
    assert "did you mean cosine" in text


@pytest.mark.parametrize(
    ("kind", "train"),
    [
        ("sft", {"learning_rate": 1e-5, "max_steps": 10, "bf16": True, "optim": "adamw_torch", "warmup_steps": 5}),
        ("sft", {"packing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}, "learning_rate": 1}),
        ("grpo", {"per_device_train_batch_size": 16, "num_generations": 8, "loss_type": "dr_grpo", "beta": 0}),
        ("grpo", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "scale_rewards": "none"}),
        ("grpo", {"epsilon_high": None, "top_k": 0, "save_total_limit": 2, "max_grad_norm": 0.2}),
    ],
)
def test_good_blocks_pass(kind: fields.Kind, train: dict[str, object]) -> None:
    assert train_problems(kind, train) == []


@pytest.mark.parametrize(
    ("train", "world_size", "said"),
    [
        ({"per_device_train_batch_size": 6, "num_generations": 4}, 1, ["size: 4 or 8", "num_generations: 3 or 6"]),
        (
            {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_generations": 8},
            2,
            ["3 x 2 processes x 2 accumulation steps = 12", "size: 2 or 4", "num_generations: 6 or 12"],
        ),
        ({"num_generations": 1}, 1, ["at least 2"]),
        ({"generation_batch_size": 10, "per_device_train_batch_size": 4}, 1, ["nearest: 8 or 12"]),
        ({"generation_batch_size": 16, "steps_per_generation": 2}, 1, ["both set"]),
        (
            {"steps_per_generation": 2, "gradient_accumulation_steps": 4},
            1,
            ["steps_per_generation 4 or more", "gradient_accumulation_steps 2 or less"],
        ),
        (
            {"steps_per_generation": 1, "gradient_accumulation_steps": 5, "num_iterations": 2},
            1,
            ["steps_per_generation 3 or more", "gradient_accumulation_steps 2 or less"],
        ),
        (
            {"generation_batch_size": 16, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
            1,
            ["generation_batch_size 16 (= 2 x 8)", "generation_batch_size 32 or more"],
        ),
    ],
)
def test_batch_arithmetic_names_the_nearest_valid_values(
    train: dict[str, int], world_size: int, said: list[str]
) -> None:
    problems = train_problems("grpo", train, world_size)
    assert len(problems) == 1 and all(piece in problems[0] for piece in said), problems


def test_the_named_values_are_valid() -> None:
    for size in (4, 8):
        assert train_problems("grpo", {"per_device_train_batch_size": size, "num_generations": 4}) == []
    for group in (3, 6):
        assert train_problems("grpo", {"per_device_train_batch_size": 6, "num_generations": group}) == []
    for steps, accumulated, iterations in ((4, 4, 1), (2, 2, 1), (3, 5, 2), (1, 2, 2)):
        train = {"gradient_accumulation_steps": accumulated, "num_iterations": iterations}
        assert train_problems("grpo", train | {"steps_per_generation": steps}) == []
    train = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    assert train_problems("grpo", train | {"generation_batch_size": 32}) == []


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"learning_rate": True}, "true/false, expected float"),
        ({"bf16": "yes"}, "'yes' is text, expected bool"),
        ({"temperature": 0.0}, "not positive"),
        ({"learning_rate": -1e-6}, "negative"),
        ({"loss_type": "grop"}, "did you mean"),
        ({"max_grad_norm": float("nan")}, "not a finite number"),
        ({"reward_weights": [1.0]}, "use `stages.<stage>.reward.parts.<part>.weight`"),
        ({"max_steps": 0, "num_train_epochs": 0}, "nothing to train"),
    ],
)
def test_values_of_the_wrong_kind_are_named(train: dict[str, object], said: str) -> None:
    problems = train_problems("grpo", train)
    assert len(problems) == 1 and said in problems[0], problems


def test_checking_needs_no_torch() -> None:
    code = (
        "import sys; from openr1.train.settings import train_problems, GRPOSettings; import openr1.models.settings;"
        "train_problems('grpo', {'x': 1}); bad = {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("system_prompt", "stages.prompts.task.system_prompt"),
        ("overwrite_output_dir", "rerun=[STAGE]"),
        ("max_prompt_length", "dropped and counted"),
        ("benchmarks", "kind evaluate"),
        ("reward_funcs", "stages.<stage>.reward.parts"),
        ("reward_weights", "stages.<stage>.reward.parts"),
        ("dataset_name", "stages.prompts.task"),
        ("hub_model_id", "openr1 publish"),
        ("push_to_hub", "openr1 publish"),
    ],
)
def test_what_people_bring_from_open_r1_is_told_its_place(name: str, says: str) -> None:
    (line,) = [p for p in train_problems("grpo", {name: "x"}) if name in p]
    assert says in line


def test_a_name_like_no_other_does_not_list_hundreds() -> None:
    (line,) = train_problems("sft", {"zzzzzz": 1})
    assert line.endswith("no argument of trl.SFTConfig; see docs/config_reference.md")
