"""Countdown: reach a target with given numbers and + - * /, each number used at most once. Every target is reachable:
the numbers are combined at random first, and what comes out is the target."""

from __future__ import annotations

import random

from openr1.errors import UserError
from openr1.tasks.base import Question
from openr1.tasks.settings import CountdownSettings
from openr1.tasks.traces import wrap

TRIES = 2000
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
Term = tuple[int, str, int]  # value, expression, precedence of its outermost operator (3: a number)


class Countdown:
    """Draws problems; the solution is the trace that made the target."""

    verifier = "expression"
    trusted = True

    def __init__(self, settings: CountdownSettings) -> None:
        self.settings = settings

    def draw(self, index: int, rng: random.Random) -> Question:
        settings = self.settings
        for _ in range(TRIES):
            numbers = [rng.randint(*settings.values) for _ in range(rng.randint(*settings.numbers))]
            used = numbers if settings.use_all else rng.sample(numbers, rng.randint(2, len(numbers)))
            steps, value, expression = combine(used, list(settings.operators), rng)
            if settings.target[0] <= value <= settings.target[1] and value not in numbers:
                return self._question(numbers, value, expression, steps)
        raise UserError(
            f"countdown: {TRIES} draws in a row gave no target in {settings.target}; widen target, values or operators"
        )

    def _question(self, numbers: list[int], target: int, expression: str, steps: list[str]) -> Question:
        text = self.settings.question.replace("{numbers}", ", ".join(map(str, numbers)))
        return Question(
            text=text.replace("{target}", str(target)),
            answer=expression,
            key=f"countdown:{','.join(map(str, sorted(numbers)))}={target}",
            solution=wrap(steps, expression),
            metadata={"numbers": numbers, "target": target, "use_all": self.settings.use_all},
        )

    def solve(self, question: Question, mixture: str | None, rng: random.Random) -> Question:
        return question


def combine(numbers: list[int], operators: list[str], rng: random.Random) -> tuple[list[str], int, str]:
    """Join the numbers pairwise until one is left: the steps, the value and the expression.

    Differences are taken the non-negative way round and division only where it is exact, so every step is a
    non-negative integer.
    """
    terms: list[Term] = [(n, str(n), 3) for n in numbers]
    steps: list[str] = []
    while len(terms) > 1:
        rng.shuffle(terms)
        a, b = terms.pop(), terms.pop()
        sign = rng.choice(operators)
        if sign == "-" and a[0] < b[0] or sign == "/" and b[0] and a[0] % b[0] and not b[0] % max(a[0], 1):
            a, b = b, a
        if sign == "/" and (b[0] == 0 or a[0] % b[0]):
            sign = next((s for s in operators if s != "/" and (s != "-" or a[0] >= b[0])), "")
            if not sign:
                return steps, -1, ""
        value = {"+": a[0] + b[0], "-": a[0] - b[0], "*": a[0] * b[0], "/": a[0] // b[0] if b[0] else 0}[sign]
        steps.append(f"{a[0]}{sign}{b[0]}={value}")
        terms.append((value, f"{_inside(a, sign, False)}{sign}{_inside(b, sign, True)}", PRECEDENCE[sign]))
    return steps, terms[0][0], terms[0][1]


def _inside(term: Term, sign: str, right: bool) -> str:
    """A term as an operand of `sign`, in brackets where it needs them."""
    _, text, inner = term
    outer = PRECEDENCE[sign]
    return f"({text})" if inner < outer or (right and inner == outer and sign in "-/") else text
