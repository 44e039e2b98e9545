"""Floating-point values of expressions: what one is about, and whether two are certain to differ."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

from openr1.verify.grammar import Tree, symbols


class _Peak:
    """The largest magnitude met on the way, which bounds what rounding can have done."""

    def __init__(self) -> None:
        self.value = 1.0

    def see(self, x: complex) -> complex:
        size = abs(x)
        if not size < 1e100:
            raise OverflowError
        self.value = max(self.value, size)
        return x


_CALLS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "asin": cmath.asin, "acos": cmath.acos, "atan": cmath.atan,
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh, "ln": cmath.log, "abs": lambda x: complex(abs(x)),
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x),
}  # fmt: skip


def _evaluate(tree: Tree, env: dict[str, complex], peak: _Peak) -> complex:
    """The value at `env`; raises OverflowError, ValueError or ZeroDivisionError where there is none."""
    kind = tree[0]
    if kind == "num":
        return peak.see(complex(float(tree[1])))
    if kind == "sym":
        return env[tree[1]]
    if kind == "neg":
        return -_evaluate(tree[1], env, peak)
    if kind == "fn":
        if tree[1] not in _CALLS:
            raise ValueError(tree[1])
        inner = _evaluate(tree[2], env, peak)
        if tree[1] in ("asin", "acos") and abs(inner) > 1:
            raise ValueError(tree[1])
        return peak.see(_CALLS[tree[1]](inner))
    if kind not in ("add", "mul", "div", "pow", "root"):
        raise ValueError(kind)
    a, b = _evaluate(tree[1], env, peak), _evaluate(tree[2], env, peak)
    if kind == "add":
        return peak.see(a + b)
    if kind == "mul":
        return peak.see(a * b)
    if kind == "div":
        return peak.see(a / b)
    if kind == "root":
        if b.imag == 0 and b.real % 2 == 1 and a.imag == 0 and a.real < 0:
            return peak.see(-((-a) ** (1 / b)))
        return peak.see(a ** (1 / b))
    if a.imag == 0 and a.real < 0 and b.real % 1 != 0:
        raise ValueError("the branch of a root")
    return peak.see(a**b)


def value_of(tree: Tree) -> complex | None:
    """The floating-point value of an expression without variables, or None."""
    try:
        return _evaluate(tree, {"\\pi": math.pi + 0j, "e": math.e + 0j, "i": 1j}, _Peak())
    except (OverflowError, ValueError, ZeroDivisionError, KeyError):
        return None


_POINTS = (0.7390851332151607, 1.3247179572447461, 2.5029078750958928, 0.5671432904097838, 1.7052111401053678)


def numerically_different(a: Tree, b: Tree) -> bool:
    """True only where the two are certain to differ: at a point where both have a value, by more than rounding."""
    names = sorted(symbols(a) | symbols(b))
    for shift in range(3):
        env: dict[str, complex] = {"\\pi": math.pi + 0j, "e": math.e + 0j, "i": 1j}
        for k, name in enumerate(names):
            env[name] = complex(_POINTS[(k + shift) % 5] + 0.3137 * (k // 5) + 0.1 * shift)
        peak = _Peak()
        try:
            left, right = _evaluate(a, env, peak), _evaluate(b, env, peak)
        except (OverflowError, ValueError, ZeroDivisionError, KeyError):
            continue
        if abs(left - right) > 1e-8 * max(abs(left), abs(right)) + 1e-11 * peak.value:
            return True
    return False
