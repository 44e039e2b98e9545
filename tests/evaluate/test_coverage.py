"""Intervals against simulated truth; `scripts/coverage_of_intervals.py` writes the tables of docs/evaluate.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from coverage_of_intervals import (  # noqa: E402
    PAGE,
    SPREADS,
    TRIALS,
    alarms_row,
    answers,
    coverage,
    coverage_row,
    false_alarms,
)

from openr1.evaluate.statistics import (  # noqa: E402
    TOO_FEW,
    Counts,
    clustered,
    clustered_of,
    mean_pass_at_k,
    resampling_of,
    resampling_only,
)

NOISE = 2 * (0.95 * 0.05 / TRIALS) ** 0.5  # two standard errors of a simulated share


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


def test_simulated_moments_are_those_of_counts() -> None:
    for _, means in answers(30, 4, 0.3, 1.0, trials=20, seed=3):
        for row in means:
            questions = [Counts(round(4 * m), 4) for m in row]
            within = float((row * (1 - row)).sum() / 3 / 30**2)
            of_kind, of_these = clustered(questions), resampling_only(questions)
            assert of_these is not None
            assert clustered_of(row.mean(), row.var(ddof=1) / 30, 30).high == pytest.approx(of_kind.high)
            assert resampling_of(row.mean(), within, 120).low == pytest.approx(of_these.low)


def test_pass_at_1_does_not_depend_on_k() -> None:
    questions = [Counts(c, 8) for c in (0, 3, 8, 5)]
    assert mean_pass_at_k(questions, 1) == pytest.approx(sum(q.mean for q in questions) / 4)
    for k in (1, 4, 64):  # simulated: 2,000 sets of 20 questions, of which 0.3 are right
        found = [
            mean_pass_at_k([Counts(round(k * m), k) for m in row], 1)
            for _, means in answers(20, k, 0.3, 1.0, trials=2000, seed=k)
            for row in means
        ]
        assert sum(filter(None, found)) / 2000 == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 40_000) ** 0.5)


@pytest.mark.parametrize(("n", "same"), [(13, True), (13, False), (30, True)])  # 13: every choice of signs
def test_the_paired_test_and_its_interval_hold_their_size(n: int, same: bool) -> None:
    """Of 2,000 comparisons of equally good models at most one in twenty is claimed to differ."""
    tested, apart = false_alarms(n, 4, spread=1.0, trials=2000, seed=0, same=same)
    assert 0.01 <= tested <= 0.05 + NOISE
    assert 0.02 <= apart <= 0.05 + NOISE


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.2, 0.35, 0.5, 0.65, 0.8])
@pytest.mark.parametrize(("n", "k"), [(30, 64), (500, 4)])
def test_coverage_is_93_to_97(n: int, k: int, accuracy: float) -> None:
    for spread in SPREADS:
        for found in coverage(n, k, accuracy, spread, TRIALS, seed=0):
            assert 0.93 - NOISE <= found <= 0.97 + NOISE, spread


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.02, 0.05, 0.1, 0.9, 0.95, 0.98])
@pytest.mark.parametrize(("n", "k"), [(30, 64), (500, 4)])
def test_near_the_ends_it_is_at_least_93_or_said_to_be_unreliable(n: int, k: int, accuracy: float) -> None:
    """What does not hold the truth in 93 of 100 cases has less than a question's worth of the rarer outcome."""
    for spread in SPREADS:
        kind, again = coverage(n, k, accuracy, spread, TRIALS, seed=0)
        assert again >= 0.93 - NOISE, spread
        assert kind >= 0.93 - NOISE or n * min(accuracy, 1 - accuracy) < TOO_FEW, spread


@pytest.mark.slow
def test_the_tables_of_the_document_are_the_programs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert coverage_row(30, 64, TRIALS) in page and coverage_row(500, 4, TRIALS) in page
    assert alarms_row(13, 4, TRIALS) in page
