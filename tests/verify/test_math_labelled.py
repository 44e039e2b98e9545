"""The labelled set: notations of mathematics, both polarities, every convention of docs/grading.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openr1.verify import grade

DATA = Path(__file__).parent / "data" / "math_labelled.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def graded() -> list[tuple[dict, str, str]]:
    verdicts = grade(
        gold=[row["gold"] for row in ROWS],
        completion=[row["completion"] for row in ROWS],
        info=[row.get("info") for row in ROWS],
        finish_reason=[row.get("finish_reason") for row in ROWS],
    )
    return [(row, v.status, v.decided_by) for row, v in zip(ROWS, verdicts, strict=True)]


def test_the_set_is_large_and_has_both_polarities() -> None:
    right = sum(row["expected"] for row in ROWS)
    assert len(ROWS) >= 600 and right >= 250 and len(ROWS) - right >= 250


def test_no_false_accepts(graded: list[tuple[dict, str, str]]) -> None:
    assert [row for row, status, _ in graded if status == "correct" and not row["expected"]] == []


def test_hardly_any_false_rejects(graded: list[tuple[dict, str, str]]) -> None:
    lost = [row for row, status, _ in graded if status != "correct" and row["expected"]]
    assert len(lost) <= 0.005 * sum(row["expected"] for row in ROWS), lost


def test_nothing_is_masked(graded: list[tuple[dict, str, str]]) -> None:
    assert [row for row, status, _ in graded if status in ("infra_error", "bad_gold")] == []


def test_most_rows_need_no_worker(graded: list[tuple[dict, str, str]]) -> None:
    here = sum(by in ("exact", "text", "number", "extract") for _, _, by in graded)
    assert here >= 0.95 * len(graded)
