"""Integer arithmetic: a + b (+ c …), a - b, a * b, put in several phrasings, with solutions drawn from a mixture.

A mixture of clean traces is a cold-start set; one with forgotten carries, bare answers, wrong ones and noise is a
pre-training corpus that leaves a base model partly competent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from openr1.tasks.base import Question
from openr1.tasks.settings import ArithmeticSettings, MixtureSettings
from openr1.tasks.traces import result, trace

SIGN = {"add": "+", "sub": "-", "mul": "*"}
SLIPS = (-100, -10, -1, 1, 10, 100)  # how far off a wrong bare answer is


class Arithmetic:
    """Draws problems and writes their solutions."""

    verifier = "math"
    trusted = True

    def __init__(self, settings: ArithmeticSettings) -> None:
        self.settings = settings
        self._names = list(settings.phrasings)
        self._weights = [p.weight for p in settings.phrasings.values()]

    def draw(self, index: int, rng: random.Random) -> Question:
        settings = self.settings
        count = rng.randint(*settings.operands)
        length = rng.randint(*settings.digits)
        operands = []
        for _ in range(count):
            digits = length if settings.same_length else rng.randint(*settings.digits)
            operands.append(rng.randrange(10 ** (digits - 1), 10**digits))
        if settings.operation == "sub":
            operands.sort(reverse=True)
        phrasing = rng.choices(self._names, self._weights)[0]
        sign, words = SIGN[settings.operation], list(map(str, operands))
        text = settings.phrasings[phrasing].template.replace("{expression}", sign.join(words))
        return Question(
            text=text.replace("{spaced}", f" {sign} ".join(words)),
            answer=str(result(settings.operation, operands)),
            key=key_of(settings.operation, operands),
            metadata={"operands": operands, "phrasing": phrasing},
        )

    def solve(self, question: Question, mixture: str | None, rng: random.Random) -> Question:
        if mixture is None:
            text, kind = trace(self.settings.operation, question.metadata["operands"], "clean"), "clean"
        else:
            text, kind = self._document(question, self.settings.mixtures[mixture], rng)
        return replace(question, solution=text, metadata=question.metadata | {"solution": kind})

    def _document(self, question: Question, mixture: MixtureSettings, rng: random.Random) -> tuple[str, str]:
        """One document of the corpus, and its kind: a mode of traces, noise, wrong or bare."""
        chance = mixture.trace
        if isinstance(chance, dict):
            chance = chance[question.metadata["phrasing"]]
        if rng.random() < chance:
            mode: str = rng.choices(list(mixture.modes), list(mixture.modes.values()))[0]
            connective = connectives(mixture, rng)
            return trace(self.settings.operation, question.metadata["operands"], mode, connective), mode
        if rng.random() < mixture.noise:
            return rng.choice(mixture.noise_texts), "noise"
        answer = int(question.answer or 0)
        if rng.random() < mixture.wrong:
            return f"\\boxed{{{_slip(answer, rng)}}}", "wrong"
        return f"\\boxed{{{answer}}}", "bare"


def connectives(mixture: MixtureSettings, rng: random.Random) -> Callable[[], str]:
    """What stands between the steps of one trace: its own connective, or with chance `mixing` any."""
    names, weights = list(mixture.connectives), list(mixture.connectives.values())
    own = rng.choices(names, weights)[0] if len(names) > 1 else names[0]

    def draw() -> str:
        mixes = mixture.mixing > 0 and rng.random() < mixture.mixing
        return rng.choices(names, weights)[0] if mixes else own

    return draw


def _slip(answer: int, rng: random.Random) -> int:
    """A wrong answer near the right one, never negative."""
    return rng.choice([answer + slip for slip in SLIPS if answer + slip >= 0])


def key_of(operation: str, operands: Sequence[int]) -> str:
    """The operands, whatever the phrasing; 3+4 and 4+3 are one question."""
    ordered = list(operands) if operation == "sub" else sorted(operands)
    return f"{operation}:{','.join(map(str, ordered))}"
