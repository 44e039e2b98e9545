"""One-line integer functions, described step by step: `x: add 3, times 2` wants `def f(x): return (x+3)*2`.

The smallest task whose answers are programs. Its corpus can hold a slip that programmers know: the brackets forgotten,
so that the multiplication comes first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from openr1.tasks.base import Question
from openr1.tasks.settings import FunctionsSettings

SIGNS = {"add": "+", "minus": "-", "times": "*"}
Step = tuple[str, int]


class Functions:
    """Draws functions and writes programs for them, with the expression built up in the reasoning."""

    verifier = "code"
    trusted = True

    def __init__(self, settings: FunctionsSettings) -> None:
        self.settings = settings

    def draw(self, index: int, rng: random.Random) -> Question:
        low, high = self.settings.constants
        count = rng.randint(*self.settings.steps)
        steps = [(rng.choice(self.settings.operations), rng.randint(low, high)) for _ in range(count)]
        inputs = rng.sample(range(*self.settings.inputs), self.settings.cases)
        cases = [
            {"type": "function_call", "fn_name": "f", "input": [x], "output": value(steps, x)} for x in sorted(inputs)
        ]
        text = "x: " + ", ".join(f"{word} {constant}" for word, constant in steps)
        return Question(
            text=text,
            answer=program(expressions(steps, brackets=True)[-1]),
            key=f"functions:{text}",
            metadata={"steps": steps, "verification_info": {"language": "python", "test_cases": cases}},
        )

    def solve(self, question: Question, mixture: str | None, rng: random.Random) -> Question:
        modes: dict[Any, float] = self.settings.mixtures[mixture].modes if mixture else {"clean": 1.0}
        mode = rng.choices(list(modes), list(modes.values()))[0]
        lines = expressions(question.metadata["steps"], brackets=mode == "clean")
        text = f"<think>{';'.join(lines)}</think>\n<answer>\n```python\n{program(lines[-1])}\n```\n</answer>"
        return replace(question, solution=text, metadata=question.metadata | {"solution": mode})


def value(steps: Sequence[Step], x: int) -> int:
    """What the function gives for x."""
    for word, constant in steps:
        x = x + constant if word == "add" else x - constant if word == "minus" else x * constant
    return x


def expressions(steps: Sequence[Step], brackets: bool) -> list[str]:
    """The expression after each step; without `brackets` a product takes in only what stands beside it.

    >>> expressions([("add", 3), ("times", 2)], True), expressions([("add", 3), ("times", 2)], False)
    (['x+3', '(x+3)*2'], ['x+3', 'x+3*2'])
    """
    text, is_sum, found = "x", False, []
    for word, constant in steps:
        if word == "times" and is_sum and brackets:
            text = f"({text})"
        text += f"{SIGNS[word]}{constant}"
        is_sum = word != "times"
        found.append(text)
    return found


def program(expression: str) -> str:
    """The function as a program of one line."""
    return f"def f(x): return {expression}"
