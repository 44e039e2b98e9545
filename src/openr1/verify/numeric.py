r"""Numbers within a tolerance: for measurements, decimals and tasks whose answers are rounded.

`info["tolerance"]` is relative (default 1e-6), `info["absolute"]` absolute (default 0): an answer counts when it is
within either of the gold. Fractions, roots, π, percent signs, units and thousands separators are read as `math` reads
them; a unit counts only when both sides have one.
"""

from __future__ import annotations

import math
from typing import Any

from openr1.verify.answer import Answer
from openr1.verify.approximate import value_of
from openr1.verify.base import Decision, Info, Verifier, golds_of
from openr1.verify.lexer import NotMath, TooLarge
from openr1.verify.mathematics import gold_text
from openr1.verify.structure import read

TOLERANCE = 1e-6


def number(text: str) -> tuple[float, Answer]:
    """The value of a text and its reading; NotMath where it is no real number."""
    answer = read(text)
    if answer.kind == "list" and len(answer.items) == 1:
        answer = answer.items[0]
    if answer.kind != "scalar" or answer.tree is None:
        raise NotMath("no number")
    value = value_of(answer.tree)
    if value is None or value.imag or not math.isfinite(value.real):
        raise NotMath("no real number")
    return value.real, answer


class NumericVerifier(Verifier):
    """A real number within a relative or absolute tolerance of the gold."""

    name = "numeric"

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        golds = golds_of(gold)
        if not golds:
            return "the gold answer is missing or empty"
        for item in golds:
            try:
                number(gold_text(item))
            except (NotMath, ValueError, OverflowError, RecursionError) as error:
                return f"the gold {item[:80]!r} is no number: {error}"
        for key in ("tolerance", "absolute"):
            bound = (info or {}).get(key)
            if bound is not None and not (isinstance(bound, (int, float)) and bound >= 0):
                return f"info[{key!r}] is {bound!r}; it must be a number of at least 0"
        return None

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision:
        try:
            mine, reading = number(answer)
        except TooLarge as error:
            return Decision("error", "screen", str(error))
        except (NotMath, ValueError, OverflowError, RecursionError) as error:
            return Decision("wrong", "numeric", f"no number: {error}")
        relative = float(info.get("tolerance", TOLERANCE))
        absolute = float(info.get("absolute", 0.0))
        for item in golds_of(gold):
            value, theirs = number(gold_text(item))
            if reading.unit and theirs.unit and reading.unit != theirs.unit:
                continue
            pairs = [(value, mine)]
            if reading.percent != theirs.percent:  # 10% is 10 or 0.1, as under math
                pairs.append((value, mine / 100) if reading.percent else (value / 100, mine))
            if any(abs(m - g) <= max(absolute, relative * abs(g)) for g, m in pairs):
                return Decision("correct", "numeric")
        return Decision("wrong", "numeric")

    def relevant(self, info: Info) -> Info:
        return {key: info[key] for key in ("tolerance", "absolute") if key in info}
