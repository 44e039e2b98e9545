r"""Countdown: an arithmetic expression over given numbers must reach a target. Parsed by hand, never by eval.

`info` holds `numbers` (list[int]) and `target`; each number may be used once, all of them when `info["use_all"]` is
true. Values are exact fractions. The grammar is `+ - * /`, parentheses, `\times \cdot \div \frac{a}{b}` and their
Unicode forms; there is no power, so nothing can grow. The gold may be None.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import Any

from openr1.verify.base import Decision, Info, Verifier
from openr1.verify.text import strip_math_delimiters, unwrap

MAX_LENGTH = 500
MAX_DEPTH = 40
_TOKEN = re.compile(r"\s*(?:(\d+)|(.))", re.DOTALL)
_REPLACE = (
    ("\\times", "*"), ("\\cdot", "*"), ("\\ast", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("⋅", "*"), ("÷", "/"),
    ("−", "-"), ("–", "-"), ("\\left", ""), ("\\right", ""), ("\\,", ""), ("\\;", ""), ("\\!", ""), ("\\ ", " "),
    ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("[", "("), ("]", ")"), ("\\lbrace", "("), ("\\rbrace", ")"),
)  # fmt: skip
_FRAC = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")


class ExpressionError(ValueError):
    """The text is no arithmetic expression of this grammar."""


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = [number or symbol for number, symbol in _TOKEN.findall(text) if number or symbol.strip()]
        self.at = 0
        self.depth = 0
        self.numbers: list[int] = []

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.factor()
        while self.peek() in ("*", "/"):
            if self.take() == "*":
                value *= self.factor()
            else:
                divisor = self.factor()
                if divisor == 0:
                    raise ExpressionError("division by zero")
                value /= divisor
        return value

    def factor(self) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError("too deep")
        token = self.take()
        if token in ("-", "+"):
            value = self.factor()
            value = -value if token == "-" else value
        elif token == "(":
            value = self.sum()
            if self.take() != ")":
                raise ExpressionError("a parenthesis is not closed")
        elif token.isascii() and token.isdigit() and len(token) <= 12:
            value = Fraction(int(token))
            self.numbers.append(int(token))
        else:
            raise ExpressionError(f"unexpected {token[:20]!r}" if token else "unexpected end")
        self.depth -= 1
        return value


def evaluate_expression(text: str) -> tuple[Fraction, list[int]]:
    """Value and numbers used of one expression without `=`; ExpressionError where it is none."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError("too long")
    text = unwrap(strip_math_delimiters(text))
    for old, new in _REPLACE:
        text = text.replace(old, new)
    for _ in range(10):
        text, count = _FRAC.subn(r"((\1)/(\2))", text)
        if not count:
            break
    parser = _Parser(text.replace("{", "(").replace("}", ")"))
    value = parser.sum()
    if parser.at < len(parser.tokens):
        raise ExpressionError(f"unexpected {parser.peek()[:20]!r}")
    return value, parser.numbers


class ExpressionVerifier(Verifier):
    """The countdown rule: the expression reaches `target` with each of `numbers` at most once."""

    name = "expression"
    needs_gold = False

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        info = info or {}
        numbers, target = info.get("numbers"), info.get("target")
        if not isinstance(numbers, (list, tuple)) or not all(isinstance(n, int) for n in numbers) or not numbers:
            return "info has no `numbers` (a list of integers)"
        if not isinstance(target, (int, float)) or isinstance(target, bool):
            return "info has no `target` (a number)"
        return None

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision:
        if len(answer) > 2 * MAX_LENGTH:
            return Decision("error", "screen", "too long for an expression")
        sides = answer.split("=")
        try:
            value, used = evaluate_expression(sides[0])
            results = [evaluate_expression(side)[0] for side in sides[1:]]
        except ExpressionError as error:
            return Decision("wrong", "expression", str(error))
        target = Fraction(info["target"])
        if value != target or any(result != target for result in results):
            return Decision("wrong", "expression", f"the expression is {value}, not {target}")
        spare = Counter(used) - Counter(info["numbers"])
        if spare:
            return Decision("wrong", "expression", f"uses {', '.join(map(str, sorted(spare)))} more often than given")
        if info.get("use_all") and Counter(used) != Counter(info["numbers"]):
            return Decision("wrong", "expression", "does not use every number")
        return Decision("correct", "expression")

    def relevant(self, info: Info) -> Info:
        return {key: info.get(key) for key in ("numbers", "target", "use_all")}
