"""Intervals against simulated truth; `scripts/coverage.py` prints the table of docs/evaluate.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from coverage_of_intervals import SPREADS, coverage  # noqa: E402

from openr1.evaluate.statistics import Counts, clustered, mean_pass_at_k


@pytest.mark.parametrize("accuracy", [0.2, 0.5])
def test_both_intervals_cover_what_they_say(accuracy: float) -> None:
    kind, again = coverage(30, 64, accuracy, spread=1.0, trials=400, seed=1)
    assert 0.92 <= kind <= 0.985  # 93 to 97 with the error of 400 trials
    assert 0.92 <= again <= 0.985


def test_few_failures_are_paid_for_with_width() -> None:
    assert coverage(30, 64, 0.97, spread=1.0, trials=300, seed=2)[0] >= 0.93


def test_the_careful_interval_by_hand() -> None:
    """29 questions always right, one half of the time: p = 59/60, and one half of a question's worth of failures."""
    from scipy.stats import beta, norm, t

    found = clustered([Counts(4, 4)] * 29 + [Counts(2, 4)])
    p, n = 59 / 60, 30
    variance = (29 * (1 - p) ** 2 + (0.5 - p) ** 2) / 29 / n + 0.2 * p**2 / 29 / n
    draws = p * (1 - p) / variance * (norm.ppf(0.975) / t.ppf(0.975, 29)) ** 2
    assert found.low == pytest.approx(beta.ppf(0.025, p * draws, (1 - p) * draws + 1))
    assert found.high == pytest.approx(beta.ppf(0.975, p * draws + 1, (1 - p) * draws))


def test_pass_at_1_does_not_depend_on_k() -> None:
    questions = [Counts(c, 8) for c in (0, 3, 8, 5)]
    assert mean_pass_at_k(questions, 1) == pytest.approx(sum(q.mean for q in questions) / 4)


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.2, 0.35, 0.5, 0.65, 0.8])
@pytest.mark.parametrize(("n", "k"), [(30, 64), (500, 4)])
def test_coverage_is_93_to_97(n: int, k: int, accuracy: float) -> None:
    for spread in SPREADS:
        kind, again = coverage(n, k, accuracy, spread, trials=4000 if n == 30 else 1000, seed=0)
        assert 0.925 <= kind <= 0.978, (spread, kind)
        assert 0.925 <= again <= 0.978, (spread, again)
