"""`grade_file`: formats, shapes of completions, resume after a kill, clear errors, the summary."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr1.errors import OutsideError, UserError
from openr1.verify.file_formats import COLUMNS
from openr1.verify.files import grade_file


def rows(n: int) -> list[dict]:
    return [{"id": i, "answer": str(i % 7), "completion": rf"<think>{i}</think>\boxed{{{i % 5}}}"} for i in range(n)]


def expected(row: dict) -> str:
    return "correct" if row["id"] % 7 == row["id"] % 5 else "wrong"


def write_jsonl(path: Path, items: list[dict]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_row_in_order_with_its_verdict(tmp_path: Path, kind: str) -> None:
    items = rows(5003)
    path = tmp_path / f"in.{kind}"
    if kind == "jsonl":
        write_jsonl(path, items)
    else:
        pq.write_table(pa.Table.from_pylist(items), path, row_group_size=700)
    summary = grade_file(path)
    out = tmp_path / f"in.graded.{kind}"
    graded = read_jsonl(out) if kind == "jsonl" else pq.read_table(out).to_pylist()
    assert [{k: row[k] for k in ("id", "answer", "completion")} for row in graded] == items
    assert list(graded[0]) == ["id", "answer", "completion", *COLUMNS]
    assert all(row["status"] == expected(row) for row in graded)
    correct = sum(expected(row) == "correct" for row in items)
    assert summary["n"] == 5003 and summary["by_status"] == {"correct": correct, "wrong": 5003 - correct}
    assert (
        summary["accuracy"] == pytest.approx(correct / 5003) and summary["low"] < summary["accuracy"] < summary["high"]
    )
    assert set(summary) == {"n", "by_status", "accuracy", "low", "high", "seconds", "pairs_per_second", "slowest"}
    assert len(summary["slowest"]) == 5
    assert {p.name for p in tmp_path.iterdir()} == {f"in.{kind}", f"in.graded.{kind}"}


def test_shapes_of_completions_and_golds(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": r"\boxed{3}"}]
    items = [
        {"answer": 3, "completion": r"\boxed{3}"},
        {"answer": "3", "completion": chat},
        {"answer": "3", "completion": [r"\boxed{3}", r"\boxed{4}"], "finish_reason": ["stop", "length"]},
        {"answer": ["3", "4"], "completion": r"\boxed{4}"},
        {"answer": None, "completion": r"\boxed{4}"},
        {"answer": "3", "completion": None},
        {"answer": "3", "completion": ""},
        {"answer": "3", "completion": 3},
        {"answer": {"a": 1}, "completion": "x"},
        {"completion": r"\boxed{3}"},
        {"answer": "3", "completion": "<think>cut", "finish_reason": "length"},
        {"answer": "3", "completion": [], "\ud800": "\udfff"},
    ]
    path = write_jsonl(tmp_path / "odd.jsonl", items)
    with path.open("a") as handle:
        handle.write("this is no JSON\n\n[1, 2]\n")
    grade_file(path)
    graded = read_jsonl(tmp_path / "odd.graded.jsonl")
    assert [row["status"] for row in graded] == [
        "correct", "correct", ["correct", "wrong"], "correct", "bad_gold", "no_answer", "no_answer", "error",
        "bad_gold", "bad_gold", "truncated", [], "infra_error", "infra_error",
    ]  # fmt: skip
    assert graded[2]["score"] == [1.0, 0.0] and graded[12]["malformed_line"] == "this is no JSON"


def test_parquet_with_lists_messages_and_binary_golds(tmp_path: Path) -> None:
    table = pa.table(
        {
            "gold": pa.array(["1", "2"]),
            "texts": pa.array([[r"\boxed{1}", r"\boxed{2}"], [r"\boxed{2}"]]),
            "status": pa.array(["old", "old"]),
        }
    )
    pq.write_table(table, tmp_path / "k.parquet")
    grade_file(tmp_path / "k.parquet", gold="gold", completion="texts", output=tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.column_names[:3] == ["gold", "texts", "status"]
    assert out["status"].to_pylist() == [["correct", "wrong"], ["correct"]]
    binary = pa.table({"answer": pa.array([b"1"], pa.binary()), "completion": pa.array([r"\boxed{1}"])})
    pq.write_table(binary, tmp_path / "b.parquet")
    assert grade_file(tmp_path / "b.parquet")["by_status"] == {"bad_gold": 1}


def test_an_empty_file(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"answer": pa.array([], pa.string()), "completion": pa.array([], pa.string())}),
        tmp_path / "e.parquet",
    )
    summary = grade_file(tmp_path / "e.parquet")
    assert summary["n"] == 0 and (summary["accuracy"], summary["low"], summary["high"]) == (None, None, None)
    assert pq.read_table(tmp_path / "e.graded.parquet").num_rows == 0


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"answer": "1", "completion": "1"}])
    for place in (Path("/proc/out.jsonl"), path / "out.jsonl"):
        with pytest.raises(OutsideError, match=rf"grade: {place} cannot be written .* with -o"):
            grade_file(path, output=place)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder\.jsonl is a folder; name a file"):
        grade_file(path, output=tmp_path / "folder.jsonl")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"anser": "1", "text": "x"}])
    with pytest.raises(UserError) as caught:
        grade_file(path)
    assert len(caught.value.problems) == 2 and "did you mean anser?" in str(caught.value)
    with pytest.raises(UserError, match="no column 'finish'"):
        grade_file(path, gold="anser", completion="text", finish_reason="finish")
    with pytest.raises(UserError, match="no file"):
        grade_file(tmp_path / "missing.jsonl")
    with pytest.raises(UserError, match=r"neither \.parquet nor \.jsonl"):
        grade_file(tmp_path / "a.csv")
    with pytest.raises(UserError, match="is the input"):
        grade_file(path, gold="anser", completion="text", output=path)
    with pytest.raises(UserError, match="did you mean math"):
        grade_file(path, gold="anser", completion="text", verifier="mth")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        grade_file(tmp_path / "bad.parquet")


def test_information_columns_reach_the_verifier(tmp_path: Path) -> None:
    items = [
        {"completion": "<answer>1+2</answer>", "metadata": json.dumps({"numbers": [1, 2], "target": 3})},
        {"completion": "<answer>1+1</answer>", "metadata": {"numbers": [1, 2], "target": 2}},
    ]
    grade_file(write_jsonl(tmp_path / "c.jsonl", items), verifier="expression")
    assert [row["status"] for row in read_jsonl(tmp_path / "c.graded.jsonl")] == ["correct", "wrong"]


KILLED = """
import sys, time
from openr1.verify import file_formats, files
files.CHUNK = file_formats.CHUNK = 50
honest = files._grade_rows
def slow(*a):
    time.sleep(0.15)
    return honest(*a)
files._grade_rows = slow
print(files.grade_file(sys.argv[1])["n"])
"""


def test_killed_and_resumed_gives_the_same_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", rows(600))
    parts = tmp_path / "in.graded.jsonl.parts"
    seen = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
        until = time.monotonic() + 30
        while len(list(parts.glob("*.json"))) < seen + 3 and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        done = len(list(parts.glob("0*.json")))
        assert seen < done < 12 and not (tmp_path / "in.graded.jsonl").exists()
        seen = done
    stamps = {part.name: part.stat().st_mtime_ns for part in parts.glob("0*.json")}
    code = KILLED.replace("return honest", "print(len(a[0]), file=sys.stderr); return honest")
    done_run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done_run.stdout.strip() == "600" and len(done_run.stderr.split()) == 12 - len(stamps)
    graded = read_jsonl(tmp_path / "in.graded.jsonl")
    assert [row["id"] for row in graded] == list(range(600))
    assert all(row["status"] == expected(row) for row in graded) and not parts.exists()


def test_what_another_input_left_is_not_reused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", rows(10))
    parts = tmp_path / "in.graded.jsonl.parts"
    parts.mkdir()
    (parts / "key.json").write_text("{}")
    (parts / "000000.json").write_text('{"n": 1}')
    assert grade_file(path)["n"] == 10


def test_the_interval_is_wilsons_and_knows_nothing_where_nothing_was_scored(tmp_path: Path) -> None:
    given = [{"answer": "1", "completion": f"\\boxed{{{i}}}"} for i in (1, 1, 1, 1, 1, 1, 1, 1, 2, 2)]
    found = grade_file(write_jsonl(tmp_path / "in.jsonl", given))
    assert (found["low"], found["high"]) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    none = grade_file(write_jsonl(tmp_path / "none.jsonl", [{"answer": None, "completion": "\\boxed{1}"}]))
    assert (none["accuracy"], none["low"], none["high"]) == (None, None, None)


@pytest.mark.slow
def test_two_hundred_thousand_rows_with_hostile_ones_killed_twice(tmp_path: Path) -> None:
    """In order, none missing, under 15 minutes on two cores, under 1 GB, killed twice and resumed."""
    from hostile_answers import HOSTILE

    n, draw = 200_000, random.Random(0)
    path = tmp_path / "big.jsonl"
    filler = "We compute the value step by step and check it. " * 20
    with path.open("w") as handle:
        for i in range(n):
            if i % 100 == 7:
                _, gold, answer = HOSTILE[draw.randrange(len(HOSTILE))]
                answer += f"+{i}" if draw.random() < 0.5 else ""
            else:
                value = draw.randrange(1000)
                gold = rf"\frac{{{value}}}{{7}}" if i % 3 == 0 else str(value)
                answer = rf"\frac{{{2 * value}}}{{14}}" if i % 3 == 0 else str(value + (i % 5 == 0))
            row = {"id": i, "answer": gold, "completion": f"<think>{filler}</think>" + rf"\boxed{{{answer}}}"}
            handle.write(json.dumps(row) + "\n")
    code = (
        "import json, resource, sys\nfrom openr1.verify.files import grade_file\n"
        "s = grade_file(sys.argv[1], workers=2)\n"
        "own, workers = (resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))\n"
        "peak = own + 2 * workers\n"
        "print(json.dumps({**s, 'peak_kb': peak}))"
    )
    start = time.monotonic()
    parts = tmp_path / "big.graded.jsonl.parts"
    for share in (30, 60):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while len(list(parts.glob("0*.json"))) < share:
            assert process.poll() is None and time.monotonic() - start < 900
            time.sleep(0.05)
        process.kill()
        process.wait()
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seconds = time.monotonic() - start
    summary = json.loads(done.stdout)
    print(seconds, summary)
    ids, honest = [], 0
    with (tmp_path / "big.graded.jsonl").open() as handle:
        for line in handle:
            row = json.loads(line)
            ids.append(row["id"])
            if row["id"] % 100 != 7:
                honest += row["status"] == ("correct" if row["id"] % 3 == 0 or row["id"] % 5 else "wrong")
    assert ids == list(range(n)) and honest == n - n // 100
    assert seconds < 900 and summary["peak_kb"] < 1 << 20 and summary["n"] == n
    assert "infra_error" not in summary["by_status"]
