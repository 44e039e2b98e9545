"""`grade_file` on files that are not as they should be: no crash half way, no row lost, a clear line."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr1.errors import UserError
from openr1.verify import files
from openr1.verify.file_formats import CHUNK
from openr1.verify.files import grade_file

BOX = r"\boxed{3}"


def lines(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def statuses(path: Path) -> list[Any]:
    out = path.with_name(f"{path.stem}.graded{path.suffix}")
    if path.suffix == ".parquet":
        return pq.read_table(out)["status"].to_pylist()
    return [json.loads(line)["status"] for line in out.read_text().splitlines()]


def graded(tmp_path: Path, table: pa.Table) -> list[Any]:
    path = tmp_path / "in.parquet"
    pq.write_table(table, path)
    summary = grade_file(path)
    found = statuses(path)
    flat = [status for entry in found for status in (entry if isinstance(entry, list) else [entry])]
    assert len(found) == table.num_rows and summary["by_status"] == {s: flat.count(s) for s in sorted(set(flat))}
    return found


@pytest.mark.parametrize(
    ("golds", "expected"),
    [
        (pa.array([3, None, 4], pa.int64()), ["correct", "bad_gold", "wrong"]),
        (pa.array([3.0, float("nan"), None]), ["correct", "bad_gold", "bad_gold"]),
        (pa.array([Decimal("3.00"), None, Decimal("3.01")]), ["correct", "bad_gold", "wrong"]),
        (pa.array(["3", "", "4"]).dictionary_encode(), ["correct", "bad_gold", "wrong"]),
        (pa.array([None, None, None], pa.null()), ["bad_gold"] * 3),
        (pa.array([["4", "3"], [], ["4"]]), ["correct", "bad_gold", "wrong"]),
        (pa.array([b"3", b"4", None], pa.binary()), ["bad_gold"] * 3),
    ],
)
def test_gold_columns_of_any_type(tmp_path: Path, golds: pa.Array, expected: list[str]) -> None:
    assert graded(tmp_path, pa.table({"answer": golds, "completion": [BOX] * 3})) == expected


def test_completions_that_are_bytes_or_missing(tmp_path: Path) -> None:
    completions = pa.array([b"\\boxed{3}", None, b""], pa.binary())
    assert graded(tmp_path, pa.table({"answer": ["3"] * 3, "completion": completions})) == [
        "error", "no_answer", "error",
    ]  # fmt: skip


def test_conversations_are_one_verdict_each(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "q"}
    chats = [
        [asked, {"role": "assistant", "content": BOX}],
        [],
        None,
        [asked],
        [{"role": "assistant", "content": None}],
    ]
    table = pa.table({"answer": ["3"] * 5, "completion": pa.array(chats)})
    assert graded(tmp_path, table) == ["correct", *["no_answer"] * 4]


@pytest.mark.parametrize("first", [[], None])
def test_lists_are_lists_in_every_chunk(tmp_path: Path, first: Any) -> None:
    completions = pa.array([first] * CHUNK + [[BOX, "x"]] * 3, pa.list_(pa.string()))
    found = graded(tmp_path, pa.table({"answer": ["3"] * (CHUNK + 3), "completion": completions}))
    assert found[0] == ([] if first == [] else ["no_answer"]) and found[-1] == ["correct", "wrong"]


def test_lines_of_mixed_types(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": BOX}
    parts = {"role": "assistant", "content": [{"type": "text", "text": "\\boxed"}, {"type": "text", "text": "{3}"}]}
    path = lines(
        tmp_path / "mixed.jsonl",
        {"answer": 3, "completion": BOX, "finish_reason": None},
        {"answer": "3", "completion": BOX, "finish_reason": 7},
        {"answer": 3.0, "completion": [BOX, None, 7, [BOX]], "finish_reason": "length"},
        {"completion": BOX},
        {"answer": "3"},
        {"answer": "3", "completion": said},
        {"answer": "3", "completion": [parts]},
        {"answer": "3", "completion": [[said], [{"role": "assistant", "content": "no"}]]},
        {"answer": "3", "completion": {"text": BOX}},
        {"answer": float("nan"), "completion": BOX},
        {"answer": True, "completion": True},
        {"answer": [["3"]], "completion": BOX},
    )
    summary = grade_file(path)
    expected = [
        "correct", "correct", ["correct", "no_answer", "error", "error"], "bad_gold", "no_answer", "correct",
        "correct", ["correct", "wrong"], "error", "bad_gold", "bad_gold", "bad_gold",
    ]  # fmt: skip
    assert statuses(path) == expected and summary["n"] == 16
    first = path.with_name("mixed.graded.jsonl").read_bytes()
    assert grade_file(path)["by_status"] == summary["by_status"]  # run again over its own finished output
    again = path.with_name("mixed.graded.jsonl").read_bytes()
    assert [{**json.loads(line), "ms": 0} for line in again.splitlines()][2:9] == [
        {**json.loads(line), "ms": 0} for line in first.splitlines()
    ][2:9]


def test_a_graded_file_can_be_graded_again(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"answer": "3", "completion": BOX})
    grade_file(path)
    assert grade_file(tmp_path / "a.graded.jsonl")["by_status"] == {"correct": 1}
    row = json.loads((tmp_path / "a.graded.graded.jsonl").read_text())
    assert list(row) == ["answer", "completion", "status", "score", "extracted", "decided_by", "ms", "verifier"]


def test_unreadable_lines_are_masked_and_counted_as_such(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    good = json.dumps({"answer": "3", "completion": BOX}).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b'\r\n{"answer":"3","completion":"\xff"}\n{"answer": "3"\n' + good)
    summary = grade_file(path)
    assert summary["by_status"] == {"correct": 2, "infra_error": 2} and summary["accuracy"] == 1.0
    assert statuses(path) == ["correct", "infra_error", "infra_error", "correct"]


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_jsonl_is_an_empty_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.jsonl").write_text(text)
    assert grade_file(tmp_path / "e.jsonl")["n"] == 0
    assert (tmp_path / "e.graded.jsonl").read_text() == ""


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.jsonl").write_text("nope\n")
    with pytest.raises(UserError, match="none of the first 2000 lines .* is a JSON object"):
        grade_file(tmp_path / "no.jsonl")
    path = lines(tmp_path / "a.jsonl", {"answer": "3", "completion": BOX})
    for name, near in (
        ("mathh", "math"),
        ("choise", "choice"),
        ("num", "numeric"),
        ("reasoning-gym", "reasoning_gym"),
    ):
        with pytest.raises(UserError, match=f"unknown verifier '{name}': did you mean {near}"):
            grade_file(path, verifier=name)
    assert {p.name for p in tmp_path.iterdir()} == {"no.jsonl", "a.jsonl"}


def test_a_lone_surrogate_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "s.jsonl", *({"answer": "3", "completion": "\\boxed{\ud800}"},) * (CHUNK + 1))
    honest = files._grade_rows

    def killed_in_the_second_chunk(rows: Any, *rest: Any) -> Any:
        if len(rows) == 1:
            raise KeyboardInterrupt
        return honest(rows, *rest)

    monkeypatch.setattr(files, "_grade_rows", killed_in_the_second_chunk)
    with pytest.raises(KeyboardInterrupt):
        grade_file(path)
    monkeypatch.setattr(files, "_grade_rows", honest)
    assert grade_file(path)["by_status"] == {"wrong": CHUNK + 1}
