"""Two models on the same questions: the paired difference with its permutation test, and Holm's over benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openr1.evaluate.statistics import Difference, paired_difference

RESAMPLES = 9_999
EXACT_UP_TO = 14  # questions that differ: 2^14 signs are fewer than twice RESAMPLES


@dataclass(frozen=True, slots=True)
class Comparison:
    """A against B on one benchmark. `p`: of the sign-flip test. `p_holm`: after Holm over all that was compared."""

    difference: Difference
    p: float
    p_holm: float | None = None


def permutation_p(a: Sequence[float], b: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of the mean of a[i] - b[i], by flipping the signs of the questions' differences.

    Under the null hypothesis (either model could have given either answers of a question) every choice of signs is
    as likely. Exact for up to 14 questions that differ, else of 9,999 random choices, the one that was seen counted in
    (Phipson and Smyth 2010), so that it never is 0 and holds its size.

    >>> permutation_p([1, 1, 1], [0, 0, 0])
    0.25
    """
    moved = np.array([x - y for x, y in zip(a, b, strict=True) if x != y], dtype=float)
    if not len(moved):
        return 1.0
    seen = abs(moved.sum()) * (1 - 1e-12)
    if len(moved) <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float((np.abs(signs @ moved) >= seen).mean())
    rng, as_far, left = np.random.default_rng(seed), 0, RESAMPLES
    while left:
        block = min(left, 1000)
        signs = rng.integers(0, 2, (block, len(moved)), dtype=np.int8) * 2 - 1
        as_far += int((np.abs(signs @ moved) >= seen).sum())
        left -= block
    return (as_far + 1) / (RESAMPLES + 1)


def compare_questions(a: Mapping[str, float], b: Mapping[str, float], seed: int = 0) -> Comparison:
    """The comparison over the questions of both; each value is a question's mean over its samples."""
    shared = sorted(a.keys() & b.keys())
    x, y = [a[q] for q in shared], [b[q] for q in shared]
    return Comparison(paired_difference(x, y), permutation_p(x, y, seed))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): p-values that may be held against 0.05 one by one.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
