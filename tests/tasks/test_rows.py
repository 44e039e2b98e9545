from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_helpers import HELD, build, task

from openr1.errors import OutsideError, UserError
from openr1.tasks.local import SAMPLE
from openr1.tasks.word_problems import make
from openr1.verify import grade


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def local(path: str | dict[str, str], **more: Any) -> Any:
    return task(name="local", path=path, **more)


# ------------------------------------------------------------------------------------------------------- the sample
def test_the_sample_is_what_its_script_writes_and_can_be_graded() -> None:
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    assert rows == make() and len(rows) == 200
    assert all(int(r["answer"]) >= 0 for r in rows)
    built = build(task(name="local"), train={}, test=HELD | {"size": 50})
    assert {n: len(s) for n, s in built.splits.items()} == {"train": 150, "test": 50} and not built.dropped
    assert not {p.question for p in built.splits["train"]} & {p.question for p in built.splits["test"]}
    prompts = built.splits["test"]
    verdicts = grade([p.answer for p in prompts], [f"\\boxed{{{p.answer}}}" for p in prompts], prompts[0].verifier)
    assert {v.status for v in verdicts} == {"correct"}
    assert len(built.sources["train+test"]["sha256"]) == 64


# --------------------------------------------------------------------------------------------------------- formats
ROWS = [{"question": f"What is {i} plus {i}?", "gold": 2 * i, "level": i % 3} for i in range(1, 31)]


@pytest.fixture(params=["jsonl", "json", "csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / f"data.{request.param}"
    if request.param == "jsonl":
        return jsonl(path, ROWS)
    if request.param == "json":
        path.write_text(json.dumps(ROWS))
    elif request.param == "csv":
        path.write_text("question,gold,level\n" + "".join(f"{r['question']},{r['gold']},{r['level']}\n" for r in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return str(path)


def test_every_format_with_a_column_mapping(file: str) -> None:
    settings = local(file, columns={"problem": "question", "answer": "gold", "metadata": ["level"]}, verifier="math")
    splits = build(
        settings, train={}, test=HELD | {"size": 10, "overrides": {"instruction": "{problem} Think."}}
    ).splits
    assert (len(splits["train"]), len(splits["test"])) == (20, 10)
    for p in splits["train"] + splits["test"]:
        n = int(p.question.split()[2])
        assert p.answer == str(2 * n) and int(p.info["level"]) == n % 3
    assert all(p.question.endswith("? Think.") for p in splits["test"])
    assert all(p.question.endswith("?") for p in splits["train"])


def test_a_missing_column_is_named_with_what_is_there(file: str) -> None:
    with pytest.raises(UserError) as caught:
        build(local(file), train={})
    assert len(caught.value.problems) == 2
    assert "no column 'problem' (columns.problem); there is question, gold, level" in caught.value.problems[0]
    with pytest.raises(UserError, match="did you mean question"):
        build(local(file, columns={"problem": "questoin", "answer": "gold"}), train={})


def test_messages_solutions_and_cut_off_ones(tmp_path: Path) -> None:
    def row(i: int, reply: str | None, finish: str | None = "stop") -> dict[str, Any]:
        turns = [{"role": "system", "content": "s"}, {"role": "user", "content": f"q{i}"}]
        return {
            "messages": turns + ([{"role": "assistant", "content": reply}] if reply else []),
            "answer": str(i),
            "end": finish,
        }

    path = jsonl(tmp_path / "m.jsonl", [row(1, "one"), row(2, None), row(3, "thr", "length"), {"answer": "4"}])
    columns = {"messages": "messages", "finish_reason": "end"}
    built = build(local(path, columns=columns, system_prompt="not used"), train={})
    kept = {p.question: p for p in built.splits["train"]}
    assert set(kept) == {"q1", "q2"} and kept["q1"].solution == "one" and kept["q2"].solution is None
    assert [m["content"] for m in kept["q1"].messages] == ["s", "q1"]
    assert sorted(built.drop_counts()) == [
        "messages is no list of messages with role and content",
        "solution was cut off (end is 'length')",
    ]


def test_several_solutions_of_one_question_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    def row(question: str, reply: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}

    rows = [row("q", "one"), row("q", "two"), row("q", "one"), row("r", "three")]
    path = jsonl(tmp_path / "m.jsonl", rows)
    columns = {"messages": "messages", "answer": None}
    first = build(local(path, columns=columns), train={})
    assert sorted(str(p.solution) for p in first.splits["train"]) == ["one", "three"]
    every = build(local(path, columns=columns, solutions="all"), train={})
    assert sorted(str(p.solution) for p in every.splits["train"]) == ["one", "three", "two"]
    assert every.drop_counts() == {"duplicate question": 1}
    held = build(local(path, columns=columns, solutions="all"), test=HELD | {"size": 1}, train={})
    assert len(held.splits["test"]) == 1
    assert not {p.question for p in held.splits["test"]} & {p.question for p in held.splits["train"]}


# ------------------------------------------------------------------------------------------------------- bad input
def test_rows_that_cannot_be_used_are_set_aside_with_reasons(tmp_path: Path) -> None:
    table = pa.table(
        {
            "problem": pa.array(
                [b"1+1", b"\xff\xfe", None, b"2+2", b"3+3", b" 3 + 3.", b"4+4", b"4+4", b"5+5", b"6+6"]
            ),
            "answer": pa.array(["2", "x", "3", None, "6", "6", "8", "9", "\\frac{", "12"]),
        }
    )
    path = tmp_path / "b.parquet"
    pq.write_table(table, path)
    built = build(local(str(path)), train={})
    assert sorted(p.question for p in built.splits["train"]) == ["1+1", "3+3", "6+6"]
    reasons = built.drop_counts()
    bad = next(r for r in reasons if r.startswith("bad gold: "))
    assert reasons == {
        bad: 1,
        "problem holds bytes that are not UTF-8": 1,
        "no question": 1,
        "no answer": 1,
        "duplicate question": 1,
        "conflicting golds for one question": 2,
    }
    assert all(d.split == "train" and d.example for d in built.dropped)
    assert "'8', '9'" in next(d.example for d in built.dropped if "conflicting" in d.reason)


def test_nothing_left_is_an_error_with_counts(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "n.jsonl", [{"problem": "a?", "answer": None}, {"problem": "", "answer": "3"}] * 2)
    with pytest.raises(UserError, match=r"none of its 4 rows can be used: 2 x no answer, 2 x no question"):
        build(local(path), train={})


def test_broken_files_are_named_with_the_line(tmp_path: Path) -> None:
    good = json.dumps({"problem": "1+1", "answer": "2"}) + "\n"
    (tmp_path / "bad.jsonl").write_text(good + "{oops\n" + good + "[1]\n")
    (tmp_path / "latin.jsonl").write_bytes(good.encode() + '{"problem": "é"}\n'.encode("latin-1"))
    (tmp_path / "short.csv").write_text("problem,answer\n1+1,2\n3\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "head.csv").write_text("problem,answer\n")
    (tmp_path / "not.parquet").write_text("hello")
    (tmp_path / "x.txt").write_text("hello")
    for name, message in (
        ("bad.jsonl", r"bad\.jsonl:2: not JSON .*'\{oops'\n.*bad\.jsonl:4: a JSON list, not an object"),
        ("latin.jsonl", r"latin\.jsonl:2: byte 13 of the line is not UTF-8"),
        ("short.csv", r"short\.csv:3: 1 cells, but the header has 2"),
        ("empty.jsonl", "holds no rows"),
        ("head.csv", "holds no rows"),
        ("not.parquet", "not a readable Parquet file"),
        ("x.txt", "cannot read files of kind '.txt'"),
        ("none.jsonl", "no such file"),
        ("", "is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            build(local(str(tmp_path / name)), train={})


def test_splits_of_rows(tmp_path: Path) -> None:
    rows = [{"problem": f"{i}+0", "answer": str(i)} for i in range(40)]
    paths = {"a": jsonl(tmp_path / "a.jsonl", rows), "b": jsonl(tmp_path / "b.jsonl", rows[30:])}
    built = build(local(paths), train={"source": "a"}, test=HELD | {"source": "b"})
    assert (len(built.splits["train"]), len(built.splits["test"])) == (30, 10)
    assert built.drop_counts() == {"question is held out in test": 10}
    one = local(paths["a"])
    small, large = (build(one, test=HELD | {"size": n}).splits["test"] for n in (5, 9))
    assert large[:5] == small
    other = build(one, seed=1, test=HELD | {"size": 9}).splits["test"]
    assert other != large
    assert len(build(one, corpus={"size": 100, "repeats": True}).splits["corpus"]) == 100
    for splits, message in (
        ({"train": {"size": 31}, "test": HELD | {"size": 10}}, "31 questions are wanted, but .* has 30 left of 40"),
        ({"train": {}, "test": HELD}, "splits.train: nothing of"),
        ({"train": {"source": "c"}}, "no file 'c' in task.path; there is data"),
        ({"train": {"overrides": {"columns": {}}}}, "belongs to the whole task"),
        ({"train": {"mixture": "m"}}, "local has no mixtures"),
    ):
        with pytest.raises(UserError, match=message):
            build(one, **splits)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="task.path has a, b; say which one"):
        build(local(paths), train={})


# -------------------------------------------------------------------------------------------------------------- hub
def test_a_folder_of_files_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    for name, part in (("train", ROWS[:20]), ("test", ROWS[20:])):
        jsonl(folder / f"{name}.jsonl", part)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom task_helpers import *\n"
        "from openr1.errors import UserError\n"
        "t = task(name='hub', id=sys.argv[2], columns={'problem': 'question', 'answer': 'gold'})\n"
        "b = build(t, train={'source': 'train'}, test={'source': 'test', 'held_out': True})\n"
        "print({n: len(s) for n, s in b.splits.items()}, b.sources['test']['split'])\n"
        "for s in ({}, {'source': 'tset'}):\n"
        "    try: build(t, train=s)\n"
        "    except UserError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(folder)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "{'train': 20, 'test': 10} test"
    assert "has the splits train, test; set task.split" in lines[1]
    assert 'Unknown split "tset"' in lines[2]


class _Hub(BaseHTTPRequestHandler):
    """The answers of the Hub that matter here: no such dataset, gated, no such revision, broken."""

    def do_GET(self) -> None:
        status, code = 404, "RepoNotFound"
        if "gated" in self.path:
            status, code = 403, "GatedRepo"
        elif "revision" in self.path:
            status, code = 404, "RevisionNotFound"
        elif "broken" in self.path:
            status, code = 500, ""
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "revision", "error", "message"),
    [
        ("me/none", None, UserError, "no such dataset on the Hub"),
        ("me/gated", None, UserError, "is gated"),
        ("me/set", "v9", UserError, "no such revision"),
        ("me/broken", None, OutsideError, "the Hub fails"),
        ("not an id", None, UserError, "not a dataset id"),
    ],
)
def test_what_the_hub_refuses(
    hub: str, monkeypatch: pytest.MonkeyPatch, name: str, revision: str | None, error: type, message: str
) -> None:
    import huggingface_hub.constants
    import huggingface_hub.hf_api

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub)
    monkeypatch.setattr(huggingface_hub.hf_api.constants, "ENDPOINT", hub)
    with pytest.raises(error, match=message):
        build(task(name="hub", id=name, revision=revision), train={})


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OutsideError, match="does not answer"):
        build(task(name="hub", id="me/set"), train={})


def test_an_answer_that_stands_for_none_is_dropped_with_its_text(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {i} + 1?", "answer": a} for i, a in enumerate(("1", "proof", " notfound "))]
    path = jsonl(tmp_path / "d.jsonl", rows)
    built = build(local(path, columns={"no_answer": ["proof", "notfound"]}), train={})
    assert [p.answer for p in built.splits["train"]] == ["1"]
    assert [d.reason for d in built.dropped] == [
        "no answer that can be graded (proof)",
        "no answer that can be graded (notfound)",
    ]
