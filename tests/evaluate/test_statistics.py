from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
from scipy.stats import t as student

from openr1.errors import UserError
from openr1.evaluate import Counts, Interval, clustered, pass_at_k, resampling_only, wilson
from openr1.evaluate.statistics import mean_pass_at_k, paired_difference


def close(interval: Interval | None, low: float, high: float, tolerance: float = 5e-4) -> bool:
    assert interval is not None
    return abs(interval.low - low) < tolerance and abs(interval.high - high) < tolerance


def test_wilson_by_hand() -> None:
    # (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964
    assert close(wilson(8, 10), 0.4902, 0.9433)
    assert close(wilson(50, 100), 0.4038, 0.5962)
    zero, all_ = wilson(0, 30), wilson(30, 30)
    assert zero.low == 0 and zero.high == pytest.approx(3.8415 / 33.8415, abs=1e-4)
    assert all_.high == 1 and all_.low == pytest.approx(1 - zero.high)
    for k, n in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(UserError):
            wilson(k, n)


def test_clustered_by_hand() -> None:
    questions = [Counts(c, 4) for c in (4, 3, 2, 0, 1, 4, 2, 2)]
    # means 1 .75 .5 0 .25 1 .5 .5: mean .5625, squares .84375 over 7 and 8: se² = .015067; t(7) = 2.3646
    means = [q.mean for q in questions]
    p = sum(means) / 8
    se2 = sum((m - p) ** 2 for m in means) / 7 / 8
    assert (p, se2) == (0.5625, pytest.approx(0.84375 / 56))
    z, n = float(student.ppf(0.975, 7)), p * (1 - p) / se2
    centre, half = (p + z * z / 2 / n) / (1 + z * z / n), z * math.sqrt(se2 + z * z / 4 / n / n) / (1 + z * z / n)
    assert close(clustered(questions), centre - half, centre + half, 1e-9)
    assert close(clustered(questions), 0.2955, 0.7976)


def test_clustered_agrees_with_student_where_there_are_many_questions() -> None:
    rng = random.Random(1)
    questions = [Counts(sum(rng.random() < p for _ in range(4)), 4) for p in (rng.random() for _ in range(2000))]
    means = [q.mean for q in questions]
    p = sum(means) / len(means)
    se = math.sqrt(sum((m - p) ** 2 for m in means) / 1999 / 2000)
    assert close(clustered(questions), p - 1.9612 * se, p + 1.9612 * se, 5e-5)


def test_one_sample_a_question_is_wilson() -> None:
    assert clustered([Counts(1, 1)] * 8 + [Counts(0, 1)] * 2) == wilson(8, 10)
    assert resampling_only([Counts(1, 1)] * 8) is None


def test_no_variance_is_not_certainty() -> None:
    same = clustered([Counts(0, 8)] * 30)
    assert same == wilson(0, 30) and same.high > 0.1
    assert clustered([Counts(2, 4)] * 30) == wilson(15, 30)
    assert clustered([Counts(1, 10)] * 30).high == pytest.approx(wilson(3, 30).high)  # 0.1 is no exact number
    assert resampling_only([Counts(8, 8)] * 30) == wilson(240, 240)
    assert 0 <= clustered([Counts(3, 4)]).low < clustered([Counts(3, 4)]).high <= 1
    with pytest.raises(UserError):
        clustered([])
    with pytest.raises(UserError):
        resampling_only([Counts(0, 0)])


def test_resampling_only_by_hand() -> None:
    # m(1−m)/(k−1): .25·.75/3 = .0625, 0, .5·.5/3 = .08333 → sum/9 = .016204, p = .583333
    questions = [Counts(1, 4), Counts(4, 4), Counts(2, 4)]
    p, var = 7 / 12, (0.0625 + 0.25 / 3) / 9
    n, z = p * (1 - p) / var, 1.959964
    centre, half = (p + z * z / 2 / n) / (1 + z * z / n), z * math.sqrt(var + z * z / 4 / n / n) / (1 + z * z / n)
    assert close(resampling_only(questions), centre - half, centre + half, 1e-6)


def simulate(n: int, k: int, a: float, b: float, runs: int, seed: int) -> tuple[float, float]:
    """Coverage of the clustered interval and of n·k taken as independent draws, for questions ~ Beta(a, b)."""
    rng = random.Random(seed)
    truth = a / (a + b)
    hits = naive = 0
    for _ in range(runs):
        questions = []
        for _ in range(n):
            p = rng.betavariate(a, b)
            questions.append(Counts(sum(rng.random() < p for _ in range(k)), k))
        ours, theirs = clustered(questions), wilson(sum(q.correct for q in questions), n * k)
        hits += ours.low <= truth <= ours.high
        naive += theirs.low <= truth <= theirs.high
    return hits / runs, naive / runs


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.4, 1.6), (1.6, 0.4)])
def test_clustered_covers_and_independent_draws_do_not(a: float, b: float) -> None:
    ours, naive = simulate(n=30, k=32, a=a, b=b, runs=600, seed=7)
    assert 0.925 <= ours <= 0.975  # 95% within three standard errors of 600 runs
    assert naive < 0.6


def test_resampling_only_covers_these_questions() -> None:
    rng = random.Random(3)
    truths = [rng.betavariate(0.5, 0.5) for _ in range(60)]
    truth = sum(truths) / 60
    hits = 0
    for _ in range(800):
        interval = resampling_only([Counts(sum(rng.random() < p for _ in range(8)), 8) for p in truths])
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert 0.925 <= hits / 800 <= 0.975


def test_pass_at_k_counts_subsets() -> None:
    for n, c, k in ((5, 2, 1), (5, 2, 3), (6, 0, 4), (6, 6, 1), (7, 5, 4)):
        flags = [i < c for i in range(n)]
        subsets = list(combinations(flags, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))
    assert pass_at_k(200, 3, 100) == pytest.approx(1 - math.comb(197, 100) / math.comb(200, 100))
    with pytest.raises(UserError, match="pass@8 needs at least 8 samples"):
        pass_at_k(4, 1, 8)
    questions = [Counts(1, 4), Counts(4, 4), Counts(1, 1)]
    assert mean_pass_at_k(questions, 4) == 1.0 and mean_pass_at_k(questions, 8) is None


def test_pass_at_1_does_not_depend_on_how_many_samples_there_are() -> None:
    rng = random.Random(5)
    for n in (4, 8, 64):
        values = [pass_at_k(n, sum(rng.random() < 0.3 for _ in range(n)), 1) for _ in range(4000)]
        assert sum(values) / len(values) == pytest.approx(0.3, abs=0.015)


# ------------------------------------------------------------------------------------------------ paired differences
def test_a_paired_difference_by_hand() -> None:
    # differences 1 0 1 0: mean 1/2, standard error sqrt(1/3)/2 = 0.288675; t(3) at 0.975 is 3.182446, at 0.8 0.978472
    d = paired_difference([1, 1, 1, 0], [0, 1, 0, 0])
    assert (d.value, d.n) == (0.5, 4)
    assert (d.low, d.high) == (pytest.approx(0.5 - 0.918693), pytest.approx(0.5 + 0.918693))
    assert d.p == pytest.approx(0.181690, abs=1e-6) and d.detectable == pytest.approx(4.160918 * 0.288675, abs=1e-5)
    back = paired_difference([0, 1, 0, 0], [1, 1, 1, 0])
    assert (back.value, back.low, back.high, back.p) == (-0.5, pytest.approx(-d.high), pytest.approx(-d.low), d.p)


def test_equal_differences_have_no_spread_and_are_read_carefully() -> None:
    same = paired_difference([1, 0, 1], [1, 0, 1])
    assert (same.value, same.p, same.detectable) == (0, 1, None)
    assert same.high == -same.low == pytest.approx(0.7076, abs=1e-4)  # (1 - 0.7076)^3 = 0.025
    few, many = paired_difference([1.0] * 3, [0.0] * 3), paired_difference([1.0] * 300, [0.0] * 300)
    assert few.value == many.value == 1 and few.low < 0 < 0.98 < many.low < 1
    for a, b in (([1.0], [0.0]), ([], []), ([1.0, 2.0], [1.0])):
        with pytest.raises(UserError):
            paired_difference(a, b)


def test_the_size_and_the_power_of_the_paired_test() -> None:
    """Equal models on questions of very different difficulty are told apart 5% of the time; at `detectable`, 80%."""
    rng = random.Random(5)
    reps, n, k = 1500, 60, 4

    def mean(p: float) -> float:
        return sum(rng.random() < p for _ in range(k)) / k

    false = 0
    for _ in range(reps):
        hardness = [rng.betavariate(0.4, 0.4) for _ in range(n)]
        found = paired_difference([mean(p) for p in hardness], [mean(p) for p in hardness])
        false += not found.low <= 0 <= found.high
    assert 0.035 < false / reps < 0.065
    found = paired_difference([rng.gauss(0, 1) for _ in range(4000)], [0.0] * 4000)
    assert found.detectable is not None
    shift = found.detectable * math.sqrt(4000 / n)  # the same spread at n = 60
    seen = sum(paired_difference([rng.gauss(shift, 1) for _ in range(n)], [0.0] * n).low > 0 for _ in range(reps))
    assert 0.76 < seen / reps < 0.84
