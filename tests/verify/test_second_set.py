"""A second labelled set, written from the conventions alone: full completions, statuses, near misses, bad golds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openr1.verify import grade

DATA = Path(__file__).parent / "data" / "second_set.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
MASKED = ("bad_gold", "infra_error")


@pytest.fixture(scope="module")
def graded() -> list[tuple[dict[str, Any], str, float | None]]:
    verdicts = grade(
        gold=[row["gold"] for row in ROWS],
        completion=[row["completion"] for row in ROWS],
        finish_reason=[row.get("finish_reason") for row in ROWS],
        workers=1,
    )
    return [(row, v.status, v.score) for row, v in zip(ROWS, verdicts, strict=True)]


def test_both_polarities_are_there() -> None:
    right = sum(row["expected"] == "correct" for row in ROWS)
    assert right >= 1000 and sum(row["expected"] == "wrong" for row in ROWS) >= 1000


def test_no_false_accepts(graded: list[tuple[dict[str, Any], str, float | None]]) -> None:
    assert [row for row, status, _ in graded if status == "correct" and row["expected"] != "correct"] == []


def test_no_false_rejects(graded: list[tuple[dict[str, Any], str, float | None]]) -> None:
    assert [row for row, status, _ in graded if status != "correct" and row["expected"] == "correct"] == []


def test_statuses(graded: list[tuple[dict[str, Any], str, float | None]]) -> None:
    for row, status, score in graded:
        if row["expected"] == "wrong":
            assert status in ("wrong", "error"), row
        elif row["expected"] == "not_correct":
            assert status not in ("correct", *MASKED), row
        else:
            assert status == row["expected"], row
        assert (score is None) == (status in MASKED), row


@pytest.mark.parametrize("gold", [float("nan"), float("inf"), b"42", {"a": 1}, True, None, [], [None, ""]])
def test_golds_that_are_no_answer_are_masked(gold: Any) -> None:
    right, none = grade([gold, gold], [r"\boxed{42}", "no idea"])
    assert (right.status, none.status) == ("bad_gold", "bad_gold") and right.score is none.score is None


@pytest.mark.parametrize("gold", [42, 42.0, np.int64(42), np.float32(42), np.array(["7", "42"]), ("7", "42")])
def test_golds_as_columns_give_them(gold: Any) -> None:
    right, wrong = grade([gold, gold], [r"\boxed{42}", r"\boxed{43}"])
    assert (right.status, wrong.status) == ("correct", "wrong")


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("3\\,\\mathrm{m\\,s^{-1}}", "3\\text{ m/s}", "correct"),
        ("3\\,\\mathrm{m\\,s^{-1}}", "3\\,\\mathrm{m\\,s^{-2}}", "wrong"),
        ("5", "6=5", "wrong"),
        ("5", "2+3=5", "correct"),
        ("A", "(A) 5 (B) 6", "wrong"),
        ("\\text{(A),(C)}", "A", "wrong"),
        ("e^{-100\\pi}", "e^{-101\\pi}", "wrong"),
        ("5", "5\\to6", "wrong"),
    ],
)
def test_what_the_set_found(gold: str, answer: str, expected: str) -> None:
    (verdict,) = grade([gold], [rf"<think>…</think>\boxed{{{answer}}}"], workers=1)
    assert verdict.status == expected


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("3.14159", "3.1416", "correct"),
        ("1000", "1000.5", "correct"),
        ("1000", "1001.5", "wrong"),
        ("\\pi", "3.1416", "correct"),
        ("1/3", "0.3334", "correct"),
        ("0.3333", "\\frac{1}{3}", "correct"),
        ("\\frac{1}{3}", "\\frac{1}{2}", "wrong"),
        ("-2.5", "2.5", "wrong"),
    ],
)
def test_a_tolerance_of_the_task(gold: str, answer: str, expected: str) -> None:
    strict, near = grade([gold, gold], [rf"\boxed{{{answer}}}"] * 2, info=[None, {"tolerance": 0.001}])
    assert (strict.status, near.status) == ("wrong", expected)
