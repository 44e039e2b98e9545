from __future__ import annotations

from collections import Counter

import pytest
from task_helpers import HELD, build, task

from openr1.errors import UserError
from openr1.tasks import normalise
from openr1.verify import grade
from openr1.verify.reasoning_gym import BROKEN


@pytest.mark.parametrize("use_all", [True, False])
def test_countdown_solutions_are_correct(use_all: bool) -> None:
    settings = task(name="countdown", numbers=[2, 5], values=[0 + 1, 30], target=[0, 200], use_all=use_all)
    splits = build(settings, train={"size": 300}, test=HELD | {"size": 100}).splits
    for prompts in splits.values():
        verdicts = grade(
            [p.answer for p in prompts],
            [p.solution or "" for p in prompts],
            [p.verifier for p in prompts],
            info=[p.info for p in prompts],
        )
        assert {v.status for v in verdicts} == {"correct"}, [v for v in verdicts if v.status != "correct"][:3]

    def key(p: object) -> tuple[list[int], int]:
        return sorted(p.info["numbers"]), p.info["target"]  # type: ignore[attr-defined]

    held = [key(p) for p in splits["test"]]
    assert len({str(k) for k in held}) == 100
    assert not any(key(p) in held for p in splits["train"])
    assert all(str(n) in p.question for p in splits["test"] for n in [*p.info["numbers"], p.info["target"]])


@pytest.mark.parametrize("operators", [["+"], ["-"], ["*", "/"], ["/"], ["-", "/"]])
def test_countdown_with_few_operators(operators: list[str]) -> None:
    settings = task(name="countdown", numbers=[2, 3], values=[1, 24], target=[0, 500], operators=operators)
    prompts = build(settings, train={"size": 30}).splits["train"]
    assert all(not set(p.answer or "") & (set("+-*/") - set(operators)) for p in prompts)


def test_an_impossible_countdown_says_so() -> None:
    with pytest.raises(UserError, match="no target in"):
        build(task(name="countdown", numbers=[2, 2], values=[1, 2], target=[900, 999]), train={"size": 1})


def test_reasoning_gym_is_graded_by_its_own_verifier_and_held_out_by_question() -> None:
    settings = task(name="reasoning_gym", dataset="gcd", config={"max_value": 50})
    splits = build(settings, train={"size": 800}, test=HELD | {"size": 200}).splits
    questions = {name: {normalise(p.question) for p in prompts} for name, prompts in splits.items()}
    assert len(questions["test"]) == 200 and not questions["train"] & questions["test"]
    some = splits["test"][:20]
    verdicts = grade(
        [p.answer for p in some],
        [f"<think>hm</think>\\boxed{{{p.answer}}}" for p in some],
        [p.verifier for p in some],
        info=[p.info for p in some],
    )
    assert Counter(v.status for v in verdicts) == {"correct": 20}
    assert some[0].info["dataset"] == "gcd" and some[0].info["entry"]["question"] in some[0].question


def test_a_small_space_is_named() -> None:
    settings = task(name="reasoning_gym", dataset="gcd", config={"max_value": 4})
    with pytest.raises(UserError, match=r"splits\.train: 500 different questions .* only \d+ outside the 5 held-out"):
        build(settings, train={"size": 500}, test=HELD | {"size": 5})


def test_reasoning_gym_names_and_parameters() -> None:
    assert {"game_of_life_halting", "prime_factorization", "rubiks_cube", "propositional_logic"} < set(BROKEN)
    for name, why in BROKEN.items():
        with pytest.raises(ValueError, match=f"{name} of reasoning-gym is not usable: {why}"):
            task(name="reasoning_gym", dataset=name)
    with pytest.raises(ValueError, match="seed are set by the run"):
        task(name="reasoning_gym", dataset="gcd", config={"seed": 3})
    for wrong, message in (
        ({"dataset": "gdc"}, "did you mean gcd"),
        ({"dataset": "gcd", "config": {"max_vlue": 5}}, "did you mean max_value"),
        ({"dataset": "gcd", "config": {"max_value": -5}}, "refuses max_value=-5"),
    ):
        with pytest.raises(UserError, match=message):
            build(task(name="reasoning_gym", **wrong), train={"size": 1})


def test_system_prompt_and_instruction() -> None:
    settings = task(
        name="arithmetic", digits=[1, 1], system_prompt="Be brief.", instruction="{problem}\nBox it: \\boxed{}"
    )
    prompt = build(settings, train={"size": 1}).splits["train"][0]
    assert [m["role"] for m in prompt.messages] == ["system", "user"]
    assert prompt.question.endswith("\nBox it: \\boxed{}") and "+" in prompt.question


def test_normalise() -> None:
    same = ["What is $x + y$?", "what is x+y", "What  is \\left x+y\\, ?", "WHAT IS x +y."]
    assert len({normalise(t) for t in same}) == 1, [normalise(t) for t in same]
    different = ["sort 1 23", "sort 12 3", "x+y", "x-y", "1.5", "15", "f(x)", "f(y)"]
    assert len({normalise(t) for t in different}) == len(different)
