"""The `math` verifier."""

from __future__ import annotations

from fractions import Fraction

from openr1.verify.base import Decision, Info, Verifier
from openr1.verify.text import plain, strip_math_delimiters


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(strip_math_delimiters(text).replace(",", "")) if len(text) < 200 else None
    except (ValueError, ZeroDivisionError):
        return None


class MathVerifier(Verifier):
    """Mathematical equality."""

    name = "math"

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision | None:
        for item in gold:
            a, b = _number(answer), _number(item)
            if (a is not None and a == b) or plain(answer) == plain(item):
                return Decision("correct", "fast")
        if all(_number(item) is not None for item in gold) and _number(answer) is not None:
            return Decision("wrong", "fast")
        return None

    def decide_slow(self, answer: str, gold: list[str], info: Info) -> Decision:
        from openr1.verify.symbolic import equal

        return Decision("correct" if any(equal(item, answer) for item in gold) else "wrong", "math_verify")
