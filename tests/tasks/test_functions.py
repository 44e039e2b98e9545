"""One-line functions as programs: what is asked, what the corpus answers, what two points can tell."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError
from task_helpers import HELD, build, task

from openr1.tasks.functions import expressions, program, value
from openr1.verify import grade


def functions(**more: object) -> object:
    return task(name="functions", steps=[2, 3], **more)


def graded(prompts: list, texts: list[str]) -> Counter[str]:
    found = grade([p.answer for p in prompts], texts, [p.verifier for p in prompts], info=[p.info for p in prompts])
    return Counter(v.status for v in found)


def test_clean_traces_are_correct_programs() -> None:
    splits = build(functions(cases=2), train={"size": 40}, test=HELD | {"size": 20}).splits
    for prompts in splits.values():
        assert {p.verifier for p in prompts} == {"code"}
        assert graded(prompts, [p.solution or f"```python\n{p.answer}\n```" for p in prompts]) == {
            "correct": len(prompts)
        }
    assert not {p.question for p in splits["train"]} & {p.question for p in splits["test"]}


def test_a_forgotten_bracket_is_wrong_even_by_two_points() -> None:
    careless = {"careless": {"modes": {"forgotten": 1.0}}}
    settings = functions(cases=2, mixtures=careless)
    prompts = build(settings, train={"size": 60, "mixture": "careless"}).splits["train"]
    matters = [p for p in prompts if expressions(p.info["steps"], True)[-1] != expressions(p.info["steps"], False)[-1]]
    assert 10 < len(matters) < 50
    assert graded(matters, [p.solution or "" for p in matters]) == {"wrong": len(matters)}
    others = [p for p in prompts if p not in matters]
    assert graded(others, [p.solution or "" for p in others]) == {"correct": len(others)}


def test_the_program_computes_the_steps() -> None:
    steps = [("add", 3), ("times", 2), ("minus", 4)]
    space: dict = {}
    exec(program(expressions(steps, brackets=True)[-1]), space)
    assert [space["f"](x) for x in (-2, 0, 5)] == [value(steps, x) for x in (-2, 0, 5)] == [-2, 2, 12]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"steps": [3, 2]}, "steps is"),
        ({"constants": [0, 3]}, "constants is"),
        ({"inputs": [0, 3], "cases": 4}, "fewer than 4"),
        ({"operations": ["divide"]}, "operations"),
        ({"mixtures": {"m": {"modes": {"clean": 0.0}}}}, "modes"),
    ],
)
def test_settings_that_give_nothing_are_refused(more: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        task(**{"name": "functions", "steps": [2, 3], **more})
