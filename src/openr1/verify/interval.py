"""Wilson's interval for a share of correct answers; grading a file and `evaluate.statistics` rest on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from openr1.errors import UserError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its interval."""

    value: float
    low: float
    high: float


def normal_quantile(confidence: float) -> float:
    """How many standard errors a two-sided normal interval reaches to each side: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def score_interval(p: float, n: float, z: float) -> Interval:
    """Wilson's score interval (Wilson 1927) for a share `p` of `n` draws, `z` standard errors wide."""
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    low = 0.0 if p == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-18
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return Interval(p, low, high)


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval for k successes in n independent draws.

    >>> i = wilson(8, 10)
    >>> round(i.low, 4), round(i.high, 4)
    (0.4902, 0.9433)
    """
    if n < 1 or not 0 <= k <= n:
        raise UserError(f"no interval for {k} successes in {n} draws")
    return score_interval(k / n, n, normal_quantile(confidence))
