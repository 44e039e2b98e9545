"""Benchmarks whose answers are programs, from rows with their datasets' own columns; hostile pickles; windows."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr1.errors import UserError
from openr1.paths import data_dir
from openr1.records import Verdict
from openr1.tasks.benchmarks import NotAvailable, benchmark_rows, benchmark_texts
from openr1.tasks.programs import program_rows, unpacked
from openr1.tasks.questions import BenchmarkQuestion, load_questions
from openr1.tasks.rows import Unusable
from openr1.verify import grade


def packed(value: Any) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def lcb(number: int, cases: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    row = {
        "question_title": "Twice", "question_content": f"Double the number, variant {number}.", "platform": "atcoder",
        "question_id": f"abc{number}_a", "contest_id": f"abc{number}", "contest_date": "2024-10-05T00:00:00",
        "starter_code": "", "difficulty": "easy", "public_test_cases": json.dumps(cases[:1]),
        "private_test_cases": packed(json.dumps(cases[1:])), "metadata": "{}",
    }  # fmt: skip
    return row | more


STDIN = [{"input": f"{n}\n", "output": f"{2 * n}\n", "testtype": "stdin"} for n in (1, 21)]
LIST = [{"input": f"[{n}]\n2", "output": f"[{2 * n}]", "testtype": "functional"} for n in (5, 7)]
STARTER = "class Solution:\n    def scale(self, nums: List[int], by: int) -> List[int]:\n        "
CODEFORCES = {
    "id": "1/A", "aliases": None, "contest_id": "1", "contest_name": "Round", "contest_type": "CF",
    "contest_start": 1, "contest_start_year": 2010, "index": "A", "time_limit": 1.0, "memory_limit": 64.0,
    "title": "Twice", "description": "Double the number.", "input_format": "A number.", "output_format": "A number.",
    "interaction_format": None, "note": None, "examples": [{"input": "1", "output": "2"}], "editorial": None,
    "rating": 800, "tags": ["math"], "testset_size": 2, "official_tests": [{"input": "3", "output": "6"}],
    "official_tests_complete": True, "input_mode": "stdio", "generated_checker": None, "executable": True,
    "generated_tests": 12,
}  # fmt: skip
GRADER = '#include "twice.h"\n#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d\\n", twice(n)); }\n'
IOI = {
    "year": 2024, "day": "1", "name": "Twice", "id": "twice", "problem": "Implement twice.", "time_limit": 2.0,
    "memory_limit": 2**28, "score": 40, "subtask": "01-all", "test_names": ["a", "b"],
    "grader_files": [["graders/grader.cpp", GRADER], ["graders/twice.h", "int twice(int);\n"]],
}  # fmt: skip
IOI_TESTS = [
    {"year": "2024", "problem_id": "twice", "test_name": name, "test_input": str(n), "test_output": str(2 * n)}
    for name, n in (("a", 1), ("b", 8), ("other", 3))
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def answered(question: BenchmarkQuestion, program: str, language: str = "python") -> Verdict:
    prompt = question.prompt()
    text = f"<think>hm</think>\n```{language}\n{program}\n```"
    return grade([prompt.answer], [text], prompt.verifier, info=[prompt.info])[0]


def test_humaneval_ships_and_its_solutions_are_correct() -> None:
    questions = load_questions("humaneval", network=False)
    assert len(questions) == 164 and questions[0].key == "HumanEval/0"
    text = (data_dir("eval") / "data" / "humaneval.jsonl").read_text(encoding="utf-8")
    rows = {row["task_id"]: row for row in map(json.loads, text.splitlines())}
    for number in (0, 32, 38, 50):  # 32, 38 and 50 need helpers that only the prompt has
        question = questions[number]
        row = rows[question.key]
        assert row["prompt"].strip() in question.prompt().messages[-1]["content"]
        alone = row["prompt"][row["prompt"].rindex(f"def {row['entry_point']}") :] + row["canonical_solution"]
        assert answered(question, alone).status == "correct", question.key
        assert answered(question, f"def {row['entry_point']}(*_):\n    pass").score == 0.0


def test_livecodebench_in_its_window(folder: Path) -> None:
    functional = lcb(2, LIST, starter_code=STARTER, metadata=json.dumps({"func_name": "scale"}))
    late = lcb(3, STDIN, contest_date="2025-02-01T00:00:00")
    early = lcb(4, STDIN, contest_date="2024-07-31T00:00:00", private_test_cases="rubbish")
    write(folder, "livecodebench", [lcb(1, STDIN), functional, late, early])
    first, second = load_questions("livecodebench", network=False)
    assert (first.key, second.key) == ("abc1_a", "abc2_a") and STARTER.strip() in second.text
    assert answered(first, "print(2 * int(input()))").status == "correct"
    assert answered(first, "input()\nprint(2)").detail.startswith("1 of 2")  # the private test
    scale = STARTER + "return [n * by for n in nums]"
    assert answered(second, scale).status == "correct"
    assert answered(second, STARTER + "return nums").status == "wrong"


LOADED: list[int] = []


def _loaded() -> None:
    LOADED.append(1)


class Hostile:
    """Its pickle calls a function where it is loaded."""

    def __reduce__(self) -> Any:
        return _loaded, ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (packed(Hostile()), "only one text is read"),
        (packed([Hostile(), "[]"]), "only one text is read"),
        (packed(["[]"]), "only one text is read"),
        (base64.b64encode(zlib.compress(b"cos\nsystem\n(S'true'\ntR.")).decode(), "GLOBAL"),
        (base64.b64encode(zlib.compress(pickle.dumps("[]")[:-1])).decode(), "neither JSON"),
        (base64.b64encode(b"not zlib").decode(), "neither JSON"),
        ("not base64", "neither JSON"),
    ],
)
def test_a_pickle_that_holds_more_than_a_text_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        unpacked(text)
    assert LOADED == []


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_a_text_are_read(protocol: int) -> None:
    text = json.dumps([{"input": "é" * 300, "output": "", "testtype": "stdin"}], ensure_ascii=False)
    assert unpacked(base64.b64encode(zlib.compress(pickle.dumps(text, protocol))).decode()) == text


def test_a_problem_with_a_hostile_pickle_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = program_rows("livecodebench", [lcb(1, STDIN), lcb(2, STDIN, private_test_cases=packed(Hostile()))])
    assert [row["id"] for row in rows] == ["abc1_a"]
    assert "1 problems cannot be graded and are left out: the pickle" in caplog.text


def test_codeforces_without_what_talks_or_reads_files(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [CODEFORCES, CODEFORCES | {"id": "2/A", "interaction_format": "Ask."}]
    rows += [CODEFORCES | {"id": "3/A", "input_mode": "file"}, CODEFORCES | {"id": "4/A", "official_tests": []}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "codeforces.parquet")
    [question] = load_questions("codeforces", network=False)
    assert question.key == "1/A/cpp" and "Double the number." in question.text and "64.0 MB" in question.text
    assert all(word in caplog.text for word in ("interactive", "input_mode", "no case"))
    assert question.prompt().info["time_limit"] == 1.0


def test_ioi_joins_the_tests_of_the_other_dataset(folder: Path) -> None:
    write(folder, "ioi24", [IOI, IOI | {"id": "elsewhere"}])
    missing = benchmark_rows("ioi24")
    assert isinstance(missing, NotAvailable) and "open-r1/ioi-test-cases" in str(missing)
    write(folder, "ioi24_tests", IOI_TESTS)
    [question] = load_questions("ioi24", network=False)
    assert question.key == "twice/01-all" and set(question.prompt().info["test_cases"]) == {"a", "b"}
    assert answered(question, '#include "twice.h"\nint twice(int n) { return 2 * n; }', "cpp").status == "correct"


@pytest.mark.parametrize("name", ["livecodebench", "codeforces", "ioi24"])
def test_columns_that_are_missing_are_named(name: str, folder: Path) -> None:
    write(folder, name, [{"contest_date": "2024-10-05", "something": "else"}])
    write(folder, f"{name}_tests", IOI_TESTS)
    with pytest.raises(UserError, match="no column '.*'; there is contest_date, something"):
        benchmark_texts(name)
