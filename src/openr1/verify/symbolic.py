"""math-verify, called in a worker only."""

from __future__ import annotations

import math_verify


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify holds the two equal."""
    parsed = [math_verify.parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
    return bool(math_verify.verify(parsed[0], parsed[1], timeout_seconds=None))
