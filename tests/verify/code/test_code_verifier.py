"""`verifier=code` through its public door, in a real sandbox: honest programs, tricks, broken tests, our failures."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr1.errors import UserError
from openr1.records import Verdict
from openr1.verify import get_verifier, grade
from openr1.verify.code import verifier as code_verifier
from openr1.verify.files import grade_file

DOUBLE = [{"type": "stdin_stdout", "input": f"{i}\n", "output": f"{2 * i}\n"} for i in (1, 21)]
ADD = [
    {"type": "function_call", "fn_name": "add", "input": json.dumps([a, b]), "output": str(a + b)}
    for a, b in ((1, 2), (5, 6))
]
CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(5) == 6\n"
LOOP = "def check(candidate):\n    for i in range(5):\n        assert candidate(i) == i + 1\n"
SUCC = [{"type": "assert", "code": CHECK, "entry_point": "succ"}]
DATACLASS = """
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Box:
    n: int
def size(n): return Box(n).n
"""
BIG = {"type": "assert", "code": "assert big(9000) % 1000 == 1"}  # 7606 digits, and no entry_point
STARS = {"type": "assert", "code": "assert stars(3) == '*' * 3 and stars(0) == ''"}


def called(name: str, argument: Any, value: Any) -> dict:
    return {"type": "function_call", "fn_name": name, "input": [argument], "output": value}


SUCC_LOOP = [{"type": "assert", "code": LOOP, "entry_point": "succ"}]


def judged(program: str, cases: list[dict], language: str = "python", **more: Any) -> Verdict:
    info = {"verification_info": {"language": language, "test_cases": cases, **more}}
    return grade([None], [f"<think>hm</think>\n```{language}\n{program}\n```"], "code", info=[info])[0]


HONEST = [
    ("print(2 * int(input()))", DOUBLE, "stdout"),
    ("import sys\nfor line in sys.stdin:\n    print(int(line) * 2)", DOUBLE, "stdout"),
    ("def main():\n    print(int(input()) * 2)\n\nif __name__ == '__main__':\n    main()", DOUBLE, "stdout"),
    ("def add(a, b):\n    print('debug')\n    return a + b", ADD, "call"),
    ("class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b", ADD, "call"),
    (
        "def add(a: List[int], b):\n    return a + b\n\nif __name__ == '__main__':\n    raise SystemExit(input())",
        ADD,
        "call",
    ),
    ("def succ(n):\n    return n + 1", SUCC, "asserts"),
    ("def succ(n):\n    return n + 1", SUCC_LOOP, "assert_in_sandbox"),
    ("import functools\n@functools.lru_cache\ndef succ(n):\n    return n + 1", SUCC_LOOP, "assert_in_sandbox"),
    ("def power(n):\n    return pow(n, -1, 7)", [called("power", 3, 5)], "call"),
    (DATACLASS, [called("size", 3, 3)], "call"),
    # names that the platforms have imported too
    ("class Solution:\n    def merge(self, a):\n        return sorted(a)", [called("merge", [2, 1], [1, 2])], "call"),
    ("def big(n):\n    return 7 ** n", [BIG, called("big", 9, 7**9)], "asserts"),
    ("def stars(n):\n    return '*' * n", [STARS], "asserts"),
]


@pytest.mark.parametrize(("program", "cases", "decided_by"), HONEST)
def test_an_honest_program_is_correct(program: str, cases: list[dict], decided_by: str) -> None:
    verdict = judged(program, cases)
    assert (verdict.status, verdict.score, verdict.decided_by) == ("correct", 1.0, decided_by), verdict.detail


EQUAL = """class E(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
"""
SMALL = {"type": "assert", "code": "assert succ(1) != set()"}
TRICKS = [
    ("print(2)", DOUBLE, "wrong"),  # the first case only
    ("print(int(input()) * 2)\nprint('junk')", DOUBLE, "wrong"),
    ("print(int(input()) * 2, end='')\nimport os; os._exit(3)", DOUBLE, "error"),
    ("while True: pass", DOUBLE, "timeout"),
    ("x = 1 / 0", DOUBLE, "error"),
    ("print('", DOUBLE, "error"),
    ("x = bytearray(1 << 33)", DOUBLE, "error"),
    ("while True: print('x' * 100000)", DOUBLE, "error"),
    ("def add(a, b): return True", ADD, "wrong"),
    ("def add(a, b): return float(a + b)", ADD, "wrong"),
    ("def add(a, b): return {a + b}", ADD, "wrong"),
    (EQUAL + "def add(a, b): return E(0)", ADD, "error"),
    ("def plus(a, b): return a + b", ADD, "error"),
    ("import os\ndef add(a, b): os._exit(0)", ADD, "wrong"),
    (EQUAL + "def succ(n): return E(0)", SUCC, "error"),
    (EQUAL + "def succ(n): return E(0)", SUCC_LOOP, "error"),
    ("import os\ndef succ(n): os._exit(0)", SUCC, "wrong"),
    ("import os\ndef succ(n): os._exit(0)", SUCC_LOOP, "wrong"),
    ("def succ(n): raise SystemExit(0)", SUCC_LOOP, "wrong"),
    ("def succ(n): return n", SUCC_LOOP, "wrong"),
    (
        "import builtins\nbuiltins.AssertionError = type('X', (BaseException,), {})\ndef succ(n): return n",
        SUCC_LOOP,
        "wrong",
    ),
    ("def succ(n): pass", SUCC, "wrong"),
    ("import json\njson.dumps = lambda *_: '2'\ndef succ(n): return 2", SUCC, "wrong"),
    (EQUAL + "class F:\n    def __call__(self, n): return E(0)\nsucc = F()", SUCC_LOOP, "error"),
    (
        EQUAL + "def succ(n): return E(0)",
        [{"type": "assert", "code": "for i in 1, 2: assert succ(i) == i + 1"}],
        "error",
    ),
    ("pass", [{"type": "function_call", "fn_name": "gcd", "input": [4, 6], "output": 2}], "error"),
    ("def succ(n): return '%999999999d'", [{"type": "assert", "code": "assert succ(2) % 2 != ''"}], "wrong"),
    ("def succ(n): return {k * (2**61 - 1) for k in range(3000)}", [SMALL], "wrong"),
]


@pytest.mark.parametrize(("program", "cases", "status"), TRICKS)
def test_a_trick_earns_nothing(program: str, cases: list[dict], status: str) -> None:
    verdict = judged(program, cases, time_limit=0.5, memory_limit=256)
    assert verdict.score == 0.0
    assert verdict.status in {status, "error" if status == "wrong" else status}, verdict.detail


def test_the_expected_output_is_nowhere_in_the_sandbox() -> None:
    secret = "5318008-unlikely"
    cases = [{"type": "stdin_stdout", "input": "", "output": secret}]
    program = """
import gc, os
seen = [str(o) for o in gc.get_objects() if isinstance(o, (str, bytes, dict, list))]
files = [os.path.join(where, n) for where, _, names in os.walk('.') for n in names]
for path in [*files, '/proc/self/environ', '/proc/self/cmdline']:
    if os.path.exists(path):
        seen.append(open(path, errors='replace').read())
print('FOUND' if any('5318008' + '-unlikely' in s for s in seen) else 'nothing')
"""
    assert judged(program, cases).status == "wrong"
    cases[0]["output"] = "nothing"
    assert judged(program, cases).status == "correct"


def test_calls_take_arguments_as_the_datasets_give_them() -> None:
    program = "def total(values, start=0):\n    return sum(values, start)"
    for given in ("[[1, 2, 3]]", [[1, 2, 3]], "[1,2,3]\n0", {"values": [1, 2], "start": 3}, "[1, 2, 3]"):
        assert judged(program, [{"fn_name": "total", "input": given, "output": "6"}]).status == "correct", given


def test_a_compiled_program() -> None:
    program = '#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d\\n", 2 * n); }'
    assert judged(program, DOUBLE, "cpp").status == "correct"
    broken = judged("int main() { return x; }", DOUBLE, "cpp")
    assert broken.status == "error" and "compile" in str(broken.detail)


def test_a_checker_judges_in_a_sandbox_of_its_own() -> None:
    checker = (
        "import sys\n"
        "given, right, found = (open(p).read().split() for p in sys.argv[1:4])\n"
        "print(1 if sorted(found) == sorted(right) else 0)\n"
    )
    cases = [{"input": "3", "output": "1 2 3"}]
    assert judged("print(3, 1, 2)", cases, checker=checker).status == "correct"
    assert judged("print(3, 1)", cases, checker=checker).status == "wrong"
    overwrite = """
for name in ('checker.py', 'solution.py', 'correct_output.txt'):
    try:
        open(name, 'w').write('print(1)')
    except OSError:
        pass
print(0)
"""
    assert judged(overwrite, cases, checker=checker).status == "wrong"
    testlib = "import sys\nsys.exit(0 if open(sys.argv[3]).read().split() == ['3'] else 1)"
    assert judged("print(3)", cases, checker={"language": "python", "code": testlib}).status == "correct"
    assert judged("print(4)", cases, checker={"language": "python", "code": testlib}).status == "wrong"
    failed = judged("print(3)", cases, checker="raise RuntimeError('checker bug')")
    assert failed.status == "infra_error" and failed.score is None


def test_one_slow_test_fails_its_row_and_no_other() -> None:
    """One test that raised or was slow used to zero the whole completion, one failed sandbox the whole batch."""
    info = {"verification_info": {"language": "python", "test_cases": DOUBLE, "time_limit": 0.5}}
    slow = "n = int(input())\nwhile n == 21: pass\nprint(2 * n)"
    texts = [f"```python\n{p}\n```" for p in ("print(2 * int(input()))", slow, "print(2 * int(input()))")]
    verdicts = grade([None] * 3, texts, "code", info=[info] * 3)
    assert [v.status for v in verdicts] == ["correct", "timeout", "correct"]
    assert "1 of 2 tests passed" in str(verdicts[1].detail)


BAD = [
    (None, "test_cases"),
    ({"verification_info": "{"}, "no JSON"),
    ({"verification_info": {"language": "python"}}, "has no test_cases"),
    ({"verification_info": {"test_cases": []}}, "no case"),
    ({"verification_info": {"test_cases": [3]}}, "test case 0 is a int"),
    ({"verification_info": {"language": "pythn", "test_cases": DOUBLE}}, "did you mean"),
    ({"verification_info": {"test_cases": [{"type": "stdin", "input": "", "output": ""}]}}, "test case 0: type"),
    ({"verification_info": {"test_cases": [{"input": "1"}]}}, "output is missing"),
    ({"verification_info": {"test_cases": [{"type": "function_call", "input": "[]", "output": "1"}]}}, "Python name"),
    ({"verification_info": {"test_cases": [{"type": "assert"}]}}, "needs `code`"),
    ({"verification_info": {"language": "cpp", "test_cases": ADD}}, "is for Python"),
    ({"verification_info": {"test_cases": DOUBLE, "compare": "fuzzy"}}, "compare"),
    ({"verification_info": {"test_cases": DOUBLE, "tolerance": -1}}, "tolerance"),
    ({"verification_info": {"test_cases": DOUBLE, "max_cases": 0}}, "max_cases"),
    ({"verification_info": {"test_cases": [{"input": "\ud800", "output": ""}]}}, "surrogate"),
    ({"verification_info": {"test_cases": DOUBLE, "memory_limit": math.inf}}, "memory_limit"),
    ({"verification_info": {"test_cases": DOUBLE, "files": {"../x": ""}}}, "plain file name"),
    ({"verification_info": {"test_cases": DOUBLE, "files": {"solution.py": "print(2)"}}}, "program's own name"),
    ({"verification_info": {"test_cases": DOUBLE, "checker": "print('\0')"}}, "NUL"),
    ({"verification_info": {"test_cases": [called("f", {1}, 2)]}}, "only what JSON has"),
    ({"official_tests": [{"input": "", "output": ""}], "interaction_format": "Ask."}, "interactive"),
    ({"test_names": ["a"], "grader_files": []}, "ioi-test-cases"),
    ({"verification_info": "[" * 100_000}, "nested too deeply"),
    ({"verification_info": {"test_cases": [called("f", 1, "[" * 100_000)]}}, "nested too deeply"),
]


@pytest.mark.parametrize(("info", "why"), BAD)
def test_tests_that_cannot_grade_are_a_bad_gold(info: dict | None, why: str) -> None:
    verdict = grade([None], ["```python\nprint(1)\n```"], "code", info=[info])[0]
    assert verdict.status == "bad_gold" and verdict.score is None
    assert why in str(verdict.detail)


@pytest.mark.parametrize("program", ["print('\0')", "print('\ud800')", "#" * (5 << 20)])
def test_a_program_that_cannot_be_one_is_the_models_error(program: str) -> None:
    assert judged(program, DOUBLE).status == "error"
    assert judged(f"def add(a, b):\n    return '{program}'", ADD).status == "error"


def test_only_the_first_cases_where_the_row_says_so() -> None:
    assert judged("input()\nprint(2)", DOUBLE, max_cases=1).status == "correct"


def test_the_same_program_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    code_verifier.forget_results()
    ran: list[str] = []
    run = code_verifier.grade_program
    monkeypatch.setattr(code_verifier, "grade_program", lambda p, *rest: ran.append(p) or run(p, *rest))
    info = {"verification_info": {"test_cases": DOUBLE}}
    text = "```python\nprint(2 * int(input()))\n```"
    for _ in range(2):
        assert {v.status for v in grade([None] * 4, [text] * 4, "code", info=[info] * 4)} == {"correct"}
    assert len(ran) == 1


def test_a_sandbox_that_dies_masks_the_row_and_the_next_try_grades_it() -> None:
    """Workers killed as fast as they start: retried, then masked, never a zero, and not remembered."""
    sandbox = code_verifier.shared_sandbox()
    program = "import time\ntime.sleep(0.3)\nprint(2 * int(input()))"
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            for pid in sandbox.worker_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        verdict = judged(program, DOUBLE)
    finally:
        over.set()
        killer.join()
    assert (verdict.status, verdict.score) == ("infra_error", None), verdict.detail
    assert judged(program, DOUBLE).status == "correct"


def test_files_beside_a_program_are_imported_and_compiled() -> None:
    helper = {"helper.py": "def twice(n):\n    return 2 * n\n"}
    assert judged("from helper import twice\nprint(twice(int(input())))", DOUBLE, files=helper).status == "correct"
    add = "from helper import twice\ndef add(a, b):\n    return twice(a) + b - a"
    assert judged(add, ADD, files=helper).status == "correct"


def test_a_missing_tool_is_refused_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="g\\+\\+ is not on this machine"):
        judged("int main() { return 1; }", DOUBLE, "cpp")


def test_a_deadline_masks_what_is_not_graded() -> None:
    info = {"verification_info": {"test_cases": DOUBLE, "time_limit": 0.5}}
    verdicts = get_verifier("code").verify_batch(
        ["```python\nwhile True: pass  # never\n```"], [None], [info], [None], deadline=0.2
    )
    assert verdicts[0].status == "infra_error" and verdicts[0].score is None


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_without_a_gold_column(tmp_path: Path, kind: str) -> None:
    texts = ["```python\nprint(2 * int(input()))\n```", "```python\nprint(2)\n```"]
    path = tmp_path / f"programs.{kind}"
    if kind == "jsonl":
        info: Any = {"language": "python", "test_cases": DOUBLE}
        path.write_text("".join(json.dumps({"completion": t, "verification_info": info}) + "\n" for t in texts))
    else:
        strings = [json.dumps({"language": "python", "test_cases": DOUBLE})] * 2
        pq.write_table(pa.table({"completion": [texts], "verification_info": strings[:1]}), path)
    summary = grade_file(path, verifier="code")
    assert (summary["n"], summary["by_status"]) == (2, {"correct": 1, "wrong": 1})


def test_nested_columns_of_parquet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "programs.parquet"
    info = [
        {"language": "python", "test_cases": [{"type": "stdin_stdout", "input": "4", "output": "8", "fn_name": None}]}
    ]
    pq.write_table(
        pa.table({"completion": ["```python\nprint(2 * int(input()))\n```"], "verification_info": info}), path
    )
    assert grade_file(path, verifier="code")["by_status"] == {"correct": 1}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("assert (", "no Python"),
        ("x = 1", "asserts nothing"),
        ("assert True", "asserts nothing"),
        ("assert other(1) == 1", "never names g"),
    ],
)
def test_asserts_that_test_nothing_are_a_bad_gold(code: str, why: str) -> None:
    verdict = judged("def g(): return 1", [{"type": "assert", "code": code, "entry_point": "g"}])
    assert verdict.status == "bad_gold" and why in str(verdict.detail)


def test_a_file_without_the_column_of_tests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "programs.jsonl"
    path.write_text('{"completion": "x"}\n')
    with pytest.raises(UserError, match="has no column 'verification_info', by which code grades"):
        grade_file(path, verifier="code")
