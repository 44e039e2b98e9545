"""Paired comparisons against hand-computed truth; their size is simulated in test_coverage.py."""

from __future__ import annotations

import numpy as np
import pytest

from openr1.evaluate.difference import compare_questions, holm, permutation_p


def test_the_sign_flip_test_by_hand() -> None:
    assert permutation_p([1, 1, 1], [0, 0, 0]) == 0.25  # of 8 signs, +++ and --- are as far
    assert permutation_p([1, 1, 0], [0, 0, 1]) == 1.0  # every choice of signs sums to 1 or 3
    assert permutation_p([0.75, 0.5, 1.0, 0.5], [0.25, 0.25, 0.25, 0.5]) == 0.25  # 0 differences say nothing
    assert permutation_p([1, 0], [1, 0]) == 1.0


def test_many_questions_agree_with_the_exact_test() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.4, 1, 14)
    exact = permutation_p(list(differences), [0.0] * 14)
    sampled = permutation_p([*differences, 1e-12], [0.0] * 15)  # one more that hardly counts: sampled, not enumerated
    assert exact == pytest.approx(sampled, abs=0.02)


def test_the_p_value_is_never_zero_and_the_same_again() -> None:
    a, b = [1.0] * 40, [0.0] * 40
    assert permutation_p(a, b) == permutation_p(a, b) == 1 / 10_000


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_only_the_questions_of_both_count() -> None:
    found = compare_questions({"a": 1.0, "b": 0.5, "c": 1.0}, {"a": 0.0, "b": 0.5, "d": 1.0})
    assert (found.difference.n, found.difference.value) == (2, 0.5)
