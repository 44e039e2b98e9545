"""Comparing what a program wrote with what was expected: outside the sandbox, on bytes."""

from __future__ import annotations

import math
from typing import Any, Literal

Comparison = Literal["lines", "tokens", "floats", "exact"]
COMPARISONS: tuple[Comparison, ...] = ("lines", "tokens", "floats", "exact")
TOLERANCE = 1e-9
"""Relative and absolute, for the floats that a function returns."""
STDOUT_TOLERANCE = 1e-6
MOST_DIGITS = 4_000  # of a number: Python refuses longer ones


def same_output(found: bytes, expected: bytes, how: Comparison = "lines", tolerance: float | None = None) -> bool:
    """Whether an output is the expected one, all of it.

    `exact`: the same bytes. `lines`: the same lines but for white space at their ends and empty lines at the end.
    `tokens`: the same words, however they are laid out. `floats`: the same words, where a word that is a number may
    differ by `tolerance`, relative or absolute.

    >>> same_output(b"1 2 \\n\\n", b"1 2"), same_output(b"1 2\\n", b"1 2\\n3"), same_output(b"1\\n2", b"1 2")
    (True, False, False)
    """
    if how == "exact":
        return found == expected
    if how == "lines":
        return _lines(found) == _lines(expected)
    words, wanted = found.split(), expected.split()
    if how == "tokens" or len(words) != len(wanted):
        return words == wanted
    limit = STDOUT_TOLERANCE if tolerance is None else tolerance
    return all(_near(a, b, limit) for a, b in zip(words, wanted, strict=True))


def _lines(text: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in text.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _near(found: bytes, expected: bytes, tolerance: float) -> bool:
    if found == expected:
        return True
    if len(found) > MOST_DIGITS or b"_" in found:
        return False
    try:
        a, b = float(found), float(expected)
    except ValueError:
        return False
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def same_value(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether a value decoded from JSON is the expected one: the same type all through, floats within `tolerance`.

    >>> same_value(True, 1), same_value(1.0, 1), same_value([0.1 + 0.2], [0.3]), same_value([1], [1, 2])
    (False, False, True, False)
    """
    if type(found) is not type(expected):
        return False
    if isinstance(expected, float):
        if math.isnan(expected):
            return math.isnan(found)
        return bool(math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance))
    if isinstance(expected, list):
        return len(found) == len(expected) and all(
            same_value(a, b, tolerance) for a, b in zip(found, expected, strict=True)
        )
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same_value(found[k], expected[k], tolerance) for k in expected)
    return bool(found == expected)
