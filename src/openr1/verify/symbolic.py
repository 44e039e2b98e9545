"""The strong comparison, for worker processes only: 60 digits by mpmath, then math-verify.

Two expressions that differ at one point are different; that agree to 40 digits at several points, negative ones among
them, are equal for any purpose here. math-verify gets what neither our algebra nor numbers can settle (integrals,
sums), with its own timeouts off: the worker's kernel limit is the timeout.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import mpmath
from latex2sympy2_extended import NormalizationConfig
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from openr1.verify import algebra
from openr1.verify.grammar import Tree, symbols

logging.getLogger("math_verify").setLevel(logging.ERROR)

DIGITS = 60
_AGREE = mpmath.mpf(10) ** -40
_POINTS = ("0.73908513321516064165", "1.32471795724474602596", "2.50290787509589282228", "-0.56714329040978387300",
           "-1.70521114010536776429", "3.35988566624317755317")  # fmt: skip
_MAX_ENGINE = 500
_TOWER = re.compile(
    r"\^\s*\{?[^{}]{0,20}\^|\d{5,}\s*!|!\s*\)?\s*!|\^\s*\{?\s*\d{5,}|\\binom.{0,40}(?:\^|\d{5,})|\\underbrace|\\uparrow"
)
_TEXT = re.compile(r"\\(?:text|mbox|hbox)\b|[A-Za-z]{5,}(?<!infty)")


def _evaluate(tree: Tree, env: dict[str, Any]) -> Any:
    """The value of a tree in mpmath. ValueError or OverflowError where there is none."""
    kind = tree[0]
    if kind == "num":
        return mpmath.mpf(tree[1].numerator) / tree[1].denominator
    if kind == "sym":
        return env[tree[1]]
    if kind == "neg":
        return -_evaluate(tree[1], env)
    if kind == "fn":
        return _call(tree[1], [_evaluate(arg, env) for arg in tree[2:]])
    a, b = _evaluate(tree[1], env), _evaluate(tree[2], env)
    if kind == "add":
        return a + b
    if kind == "mul":
        return a * b
    if kind == "div":
        return a / b
    if kind not in ("pow", "root"):
        raise ValueError(kind)
    if abs(b) > 10_000 or abs(a) > mpmath.mpf(10) ** 400:
        raise OverflowError
    if kind == "root":
        if mpmath.im(a) == 0 and mpmath.re(a) < 0 and mpmath.im(b) == 0 and b % 2 == 1:
            return -((-a) ** (1 / b))
        return a ** (1 / b)
    return a**b


def _call(name: str, args: list[Any]) -> Any:
    if any(abs(arg) > 10**6 for arg in args) and name in ("factorial", "factorial2", "binom"):
        raise OverflowError
    simple = {
        "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec,
        "csc": mpmath.csc,
        "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan, "acot": mpmath.acot, "sinh": mpmath.sinh,
        "cosh": mpmath.cosh, "tanh": mpmath.tanh, "ln": mpmath.log, "abs": abs, "factorial": mpmath.factorial,
        "floor": mpmath.floor, "ceil": mpmath.ceil, "factorial2": mpmath.fac2, "binom": mpmath.binomial,
        "sgn": mpmath.sign,
    }  # fmt: skip
    if name in ("max", "min"):
        return (max if name == "max" else min)(args)
    if name not in simple:
        raise ValueError(name)
    return simple[name](*args)


def compare(a: Tree, b: Tree) -> bool | None:
    """Whether two expressions are equal; None where 60 digits cannot tell."""
    exact = algebra.compare(a, b)
    if exact is not None:
        return exact
    names = sorted(symbols(a) | symbols(b))
    agreed = 0
    with mpmath.workdps(DIGITS):
        for shift in range(len(_POINTS) if names else 1):
            env: dict[str, Any] = {"\\pi": mpmath.pi(), "e": mpmath.e(), "i": mpmath.mpc(0, 1)}
            for k, name in enumerate(names):
                env[name] = mpmath.mpf(_POINTS[(shift + k) % len(_POINTS)]) + mpmath.mpf(k) / 7
            try:
                left, right = _evaluate(a, env), _evaluate(b, env)
            except (ValueError, OverflowError, ZeroDivisionError, KeyError, TypeError):
                continue
            real = mpmath.im(left) == 0 and mpmath.im(right) == 0
            if not (mpmath.isfinite(left) and mpmath.isfinite(right)):
                continue
            close = _close(left, right, a, b, env)
            if not close and (real or not names):
                return False
            agreed += close
    return True if agreed >= (3 if names else 1) else None


def _close(left: Any, right: Any, a: Tree, b: Tree, env: dict[str, Any]) -> bool:
    """Equal to 40 digits. A tiny value that rounding left behind shrinks with more digits, a true one does not."""
    size = max(abs(left), abs(right))
    if abs(left - right) <= _AGREE * size:
        return True
    if size > _AGREE:
        return False
    with mpmath.workdps(3 * DIGITS):
        constants = {"\\pi": mpmath.pi(), "e": mpmath.e()}
        again = [abs(_evaluate(tree, {**env, **constants})) for tree in (a, b)]
    return bool(max(again) <= size * mpmath.mpf(10) ** -DIGITS)


def refused(text: str) -> str | None:
    """Why the engine is not given a text, or None: too long, a tower of powers, prose."""
    if len(text) > _MAX_ENGINE:
        return f"{len(text)} characters"
    if _TOWER.search(text):
        return "a number too large to write"
    return None


_CONFIG = (
    LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
        )
    ),
    ExprExtractionConfig(),
)
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d{1,20})(?![\d.])")


def engine_equal(gold: str, answer: str) -> bool:
    """Whether math-verify holds the two equal; decimals are written as fractions first, so nothing is rounded."""
    if _TEXT.search(re.sub(r"\\[A-Za-z]+", "", gold)) or _TEXT.search(re.sub(r"\\[A-Za-z]+", "", answer)):
        return False

    def exact(text: str) -> str:
        return _DECIMAL.sub(lambda m: rf"\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}}", text)

    parsed = [
        parse(f"${exact(text)}$", extraction_config=_CONFIG, fallback_mode="no_fallback", parsing_timeout=None)  # type: ignore[arg-type]
        for text in (gold, answer)
    ]
    if not parsed[0] or not parsed[1]:
        return False
    return bool(verify(parsed[0], parsed[1], timeout_seconds=None))
