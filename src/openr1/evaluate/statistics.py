"""Intervals for accuracies, and pass@k. Torch-free.

k samples of one question are not independent: taken as n·k draws, the 95% interval of n=30, k=64 covers a quarter of
the time. So the question is the unit. Two intervals answer two questions: `clustered`, how would other questions of
this kind come out; `resampling_only`, how would these questions come out if sampled again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from openr1.errors import UserError
from openr1.verify.interval import CONFIDENCE, Interval, normal_quantile, score_interval, wilson

FEW = 3.0  # questions' worth of the rarer outcome, below which the interval is the careful one
TOO_FEW = 1.0  # below which nobody should rest anything on it
PRIOR = 0.2  # questions


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of a question's `n` graded samples are correct."""

    correct: int
    n: int

    @property
    def mean(self) -> float:
        return self.correct / self.n


def clustered(questions: Sequence[Counts], confidence: float = CONFIDENCE) -> Interval:
    """Mean accuracy over questions with an interval for questions of this kind.

    The standard error is that of the questions' means (n−1 degrees of freedom, so the sampling within a question is in
    it). The interval is Wilson's with the effective sample size p(1−p)/se² and Student's t for z (after Korn &
    Graubard 1998), which agrees with mean ± t·se in the middle and stays in [0, 1] at the ends. One sample a
    question is plain Wilson; so is a standard error of 0, with the questions as draws. With few failures (or few
    successes) the questions that were drawn show too little of their spread; see `_with_few_failures`.
    """
    n = _count(questions)
    if all(q.n == 1 for q in questions):
        return wilson(sum(q.correct for q in questions), n, confidence)
    means = [q.mean for q in questions]
    p = sum(means) / n
    alike = min(means) == max(means)  # exactly, where a sum of squares would leave 1e-34
    return clustered_of(p, 0.0 if alike else sum((m - p) ** 2 for m in means) / (n - 1) / n, n, confidence)


def clustered_of(p: float, variance: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """`clustered` from the mean of n questions' means and its squared standard error."""
    if variance == 0:
        return score_interval(p, n, normal_quantile(confidence))
    quantile = _student(0.5 + confidence / 2, n - 1)
    found = score_interval(p, max(p * (1 - p) / variance, 1.0), quantile)
    if n * min(p, 1 - p) >= FEW:
        return found
    wider = _with_few_failures(p, n, variance, quantile, confidence)
    return Interval(p, min(found.low, wider.low), max(found.high, wider.high))


@cache
def _student(level: float, degrees: int) -> float:
    """The quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(level, degrees))


def rare_outcomes(questions: Sequence[Counts]) -> float:
    """How many questions' worth of the rarer outcome there are: of failures above one half, of successes below."""
    p = sum(q.mean for q in questions) / len(questions)
    return len(questions) * min(p, 1 - p)


def _with_few_failures(p: float, n: int, variance: float, quantile: float, confidence: float) -> Interval:
    """The interval where hardly a question shows the rarer outcome: bought with width.

    A prior stands in for what was not drawn: the spread is that of the questions and of PRIOR questions more that
    show nothing but the rarer outcome. The ends are quantiles of the beta posteriors on either side (Clopper and
    Pearson's) with the effective sample size. Simulated coverage: `docs/evaluate.md`.
    """
    from scipy.stats import beta

    rare = max(p, 1 - p)  # how far a question of the rarer outcome is from the mean
    spread = variance + PRIOR * rare * rare / (n - 1) / n
    draws = max(p * (1 - p) / spread * (normal_quantile(confidence) / quantile) ** 2, 1.0)
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, p * draws, (1 - p) * draws + 1))
    high = float(beta.ppf(1 - tail, p * draws + 1, (1 - p) * draws))
    return Interval(p, low, high)


def resampling_only(questions: Sequence[Counts], confidence: float = CONFIDENCE) -> Interval | None:
    """Mean accuracy with an interval for these very questions, sampled again; None with one sample a question.

    The variance is the mean of the questions' binomial variances, each estimated without bias by m(1−m)/(k−1). Where
    all are 0, the samples are taken as that many independent draws.
    """
    n = _count(questions)
    if any(q.n < 2 for q in questions):
        return None
    p = sum(q.mean for q in questions) / n
    variance = sum(q.mean * (1 - q.mean) / (q.n - 1) for q in questions) / n**2
    return resampling_of(p, variance, sum(q.n for q in questions), confidence)


def resampling_of(p: float, variance: float, draws: int, confidence: float = CONFIDENCE) -> Interval:
    """`resampling_only` from the mean, its variance by the draws within the questions, and the number of draws."""
    effective = float(draws) if variance == 0 else max(p * (1 - p) / variance, 1.0)
    return score_interval(p, effective, normal_quantile(confidence))


def _count(questions: Sequence[Counts]) -> int:
    if not questions or any(q.n < 1 or not 0 <= q.correct <= q.n for q in questions):
        raise UserError("no interval: there are no graded questions, or one without a sample")
    return len(questions)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that one of k samples is correct, estimated without bias from n samples (Chen et al. 2021, equation 1).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not 1 <= k <= n:
        raise UserError(f"pass@{k} needs at least {k} samples a question; there are {n}")
    if n - correct < k:
        return 1.0
    return 1.0 - math.prod((n - correct - i) / (n - i) for i in range(k))


def mean_pass_at_k(questions: Sequence[Counts], k: int) -> float | None:
    """pass@k over the questions that have k graded samples; None where none has."""
    values = [pass_at_k(q.n, q.correct, k) for q in questions if q.n >= k]
    return sum(values) / len(values) if values else None


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference over questions: its interval, two-sided p-value, and what could have been seen.

    `detectable` is the smallest true difference that n questions of this spread find (interval without 0) with 80%
    power; None where every question differs by the same amount.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    detectable: float | None


def paired_difference(
    higher: Sequence[float], lower: Sequence[float], confidence: float = CONFIDENCE, power: float = 0.8
) -> Difference:
    """Mean of `higher[i] - lower[i]` over questions, by the paired t-test: the question is the unit.

    A value is a question's mean over its samples, so that samples of one question are not taken as independent. Where
    all differences are equal, t has no width. If they are not 0, one question without a difference is added for the
    interval and the p-value, which errs to the careful side; if they are 0, the interval is as far as the share of
    questions that differ may reach when none of n did (exact binomial), which bounds the difference of two rates.

    >>> d = paired_difference([1, 1, 1, 0], [0, 1, 0, 0])
    >>> d.value, round(d.low, 3), round(d.p, 3)
    (0.5, -0.419, 0.182)
    """
    if len(higher) != len(lower):
        raise UserError(f"{len(higher)} questions on one side and {len(lower)} on the other; pair the same questions")
    if len(higher) < 2:
        raise UserError(f"a paired difference needs at least 2 questions; there are {len(higher)}")
    from scipy.stats import t

    differences = [a - b for a, b in zip(higher, lower, strict=True)]
    n = len(differences)
    value = math.fsum(differences) / n
    equal = max(differences) == min(differences)
    if equal and value == 0:
        unseen = 1 - ((1 - confidence) / 2) ** (1 / n)
        return Difference(0.0, -unseen, unseen, 1.0, n, None)
    spread = [*differences, 0.0] if equal else differences
    mean, m = math.fsum(spread) / len(spread), len(spread)
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in spread) / (m - 1) / m)
    reach = _student(0.5 + confidence / 2, m - 1)
    p = float(2 * t.sf(abs(mean) / error, m - 1))
    detectable = None if equal else (reach + _student(power, m - 1)) * error
    return Difference(value, mean - reach * error, mean + reach * error, p, n, detectable)
