"""The verifier `exact`: the same text."""

from __future__ import annotations

from openr1.verify.base import Decision, Info, Verifier, golds_of
from openr1.verify.text import strip_math_delimiters


class ExactVerifier(Verifier):
    """The answer is the gold, letter by letter, but for surrounding space and maths delimiters (and case, if asked).

    `info["ignore_case"]` levels the case.
    """

    name = "exact"

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision:
        def form(text: str) -> str:
            text = " ".join(strip_math_delimiters(text).split())
            return text.casefold() if info.get("ignore_case") else text

        mine = form(answer)
        return Decision("correct" if any(mine == form(g) for g in golds_of(gold)) else "wrong", "text")

    def relevant(self, info: Info) -> Info:
        return {"ignore_case": True} if info.get("ignore_case") else {}
