"""Rows of the benchmarks whose answers are programs, as their datasets hold them: a question, and how it is tested.

LiveCodeBench keeps its private tests compressed and pickled. Nothing is unpickled here: the one text that such a
pickle holds is read out of it, and a pickle that would do anything else is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import pickletools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Literal

from openr1.errors import UserError
from openr1.tasks.rows import Row, Unusable
from openr1.verify.code.suite import BadSuite, suite_of

logger = logging.getLogger("openr1")
Programs = Literal["humaneval", "livecodebench", "codeforces", "ioi"]
Tests = Mapping[str, Mapping[str, list[str]]]
MOST_TESTS = 1 << 30  # bytes of one problem's tests, unpacked
_TEXT = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_AROUND = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"})


def program_rows(
    kind: Programs, rows: Iterable[Row], tests: Iterable[Row] = (), released: Sequence[date] | None = None
) -> list[Row]:
    """Rows with `id`, `question` and `verification_info`; those that cannot be graded are left out, and said.

    `tests`: rows of a dataset of tests (ioi). `released`: the first and the last day of the window.
    """
    beside = _by_problem(tests)
    found: list[Row] = []
    why: dict[str, int] = {}
    for row in rows:
        if released is not None and not released[0] <= _day(row) <= released[1]:
            continue
        try:
            made = _READERS[kind](row, beside)
            suite_of(made)
        except KeyError as error:
            raise UserError(f"{kind}: no column {error}; there is {', '.join(row)}; get the data again") from None
        except (Unusable, BadSuite) as error:
            why[str(error)] = why.get(str(error), 0) + 1
            continue
        found.append(made)
    for reason, count in why.items():
        logger.warning("%s: %d problems cannot be graded and are left out: %s", kind, count, reason)
    return found


def _day(row: Row) -> date:
    try:
        return date.fromisoformat(str(row["contest_date"])[:10])
    except (KeyError, ValueError):
        raise UserError(f"contest_date is {row.get('contest_date')!r}, no date; get the data again") from None


def _by_problem(rows: Iterable[Row]) -> Tests:
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        found.setdefault(str(row["problem_id"]), {})[str(row["test_name"])] = [row["test_input"], row["test_output"]]
    return found


# ------------------------------------------------------------------------------------------------------------ datasets
def _humaneval(row: Row, tests: Tests) -> Row:
    """The prompt, a function without its body, stands before the answer: it imports, and holds helpers."""
    case = {"type": "assert", "code": row["test"], "entry_point": row["entry_point"]}
    info = {"language": "python", "test_cases": [case], "prepend": row["prompt"]}
    return {"id": row["task_id"], "question": row["prompt"], "verification_info": info}


def _codeforces(row: Row, tests: Tests) -> Row:
    text = row.get("prompt") or _statement(row)
    wanted = {name: row.get(name) for name in CODEFORCES_COLUMNS}
    language = row.get("language") or "cpp"
    return {"id": f"{row['id']}/{language}", "question": text, **wanted, "language": language}


CODEFORCES_COLUMNS = (
    "official_tests", "generated_tests", "generated_checker", "input_mode", "interaction_format", "time_limit",
    "memory_limit",
)  # fmt: skip


def _statement(row: Row) -> str:
    """A problem of the plain dataset, which has no prompt."""
    parts = [row.get("description")]
    parts += [f"{title}\n{row[key]}" for key, title in _SECTIONS.items() if row.get(key)]
    for example in row.get("examples") or []:
        parts.append(f"Example\nInput:\n{example['input']}\nOutput:\n{example['output']}")
    limits = f"Limits: {row.get('time_limit')} s of CPU time, {row.get('memory_limit')} MB. Write C++17."
    return "\n\n".join([*(p for p in parts if p), limits])


_SECTIONS = {"input_format": "Input", "output_format": "Output", "note": "Note"}


def _ioi(row: Row, tests: Tests) -> Row:
    """A subtask of open-r1/ioi; open-r1/ioi-test-cases holds the tests by problem and name."""
    problem = str(row["id"])
    there = tests.get(problem, {})
    names = [str(name) for name in row.get("test_names") or there]
    keep = {name: row.get(name) for name in ("time_limit", "memory_limit", "grader_files")}
    cases = {name: there[name] for name in names if name in there}
    if not cases:
        raise Unusable("its test cases are not there")
    wanted = {"problem_id": problem, "test_names": names, "test_cases": cases, **keep}
    return {"id": f"{problem}/{row.get('subtask')}", "question": row["problem"], **wanted}


def _livecodebench(row: Row, tests: Tests) -> Row:
    """Functions where there is starter code (LeetCode), stdin and stdout elsewhere."""
    given = [*_cases(row["public_test_cases"]), *_cases(row["private_test_cases"])]
    name = json.loads(row.get("metadata") or "{}").get("func_name")
    info = {"language": "python", "test_cases": [_case(case, name) for case in given]}
    return {"id": row["question_id"], "question": _with_starter(row), "verification_info": info}


def _with_starter(row: Row) -> str:
    text, starter = row["question_content"], (row.get("starter_code") or "").rstrip()
    if starter:
        return f"{text}\n\nComplete this code and answer with all of it:\n```python\n{starter}\n```"
    return f"{text}\n\nThe program reads the input from stdin and writes the answer to stdout."


def _case(case: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    if case["testtype"] != "functional":
        return {"type": "stdin_stdout", "input": case["input"], "output": case["output"]}
    try:
        arguments = [json.loads(line) for line in case["input"].splitlines() if line.strip()]
    except ValueError:
        raise Unusable("the input of a functional test is no JSON") from None
    return {"type": "function_call", "fn_name": name, "input": arguments, "output": case["output"]}


def _cases(text: str) -> list[dict[str, Any]]:
    try:
        return list(json.loads(text))
    except ValueError:
        return list(json.loads(unpacked(text)))


def unpacked(text: str) -> str:
    """The text in LiveCodeBench's base64 of zlib of pickle; Unusable for anything else, whatever it would do."""
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), MOST_TESTS)
        if stream.unconsumed_tail:
            raise Unusable(f"private tests of more than {MOST_TESTS >> 20} MB")
        texts = []
        for code, value, _ in pickletools.genops(data):
            if code.name in _TEXT:
                texts.append(value)
            elif code.name not in _AROUND:
                raise Unusable(f"the pickle of private tests holds {code.name}; only one text is read")
    except (binascii.Error, zlib.error, ValueError, UnicodeDecodeError):
        raise Unusable("private tests that are neither JSON nor packed as LiveCodeBench packs them") from None
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise Unusable(f"the pickle of private tests holds {len(texts)} texts; one is read")
    return texts[0]


_READERS: dict[str, Callable[[Row, Tests], Row]] = {
    "humaneval": _humaneval, "livecodebench": _livecodebench, "codeforces": _codeforces, "ioi": _ioi,
}  # fmt: skip
