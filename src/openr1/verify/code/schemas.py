"""Rows of the published competition datasets as `verification_info`: open-r1/codeforces and open-r1/ioi.

Their columns are read as they are, so a recipe names them in `columns.metadata` and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

Info = Mapping[str, Any]


class NotSupported(ValueError):
    """A problem of a kind that is not graded here; the text says which."""


def verification_info(info: Info) -> Any:
    """What describes the tests of a row: its own `verification_info`, a competition's columns, or the row itself."""
    if "verification_info" in info:
        return info["verification_info"]
    if "official_tests" in info:
        return codeforces(info)
    if "grader_files" in info or "test_names" in info:
        return ioi(info)
    return info


def codeforces(row: Info) -> dict[str, Any]:
    """A row of open-r1/codeforces: official tests, then generated ones where the row holds them (as published it
    only counts them); the checker where the problem has one.
    """
    if row.get("interaction_format"):
        raise NotSupported("an interactive problem, which talks to the submission, is not graded")
    if row.get("input_mode") not in (None, "", "stdio"):
        raise NotSupported(
            f"input_mode {row['input_mode']!r}: only problems that read stdin and write stdout are graded"
        )
    generated = row.get("generated_tests")
    cases = [*(row.get("official_tests") or []), *(generated if isinstance(generated, (list, tuple)) else [])]
    return {
        "language": row.get("language") or "cpp",
        "test_cases": [{"type": "stdin_stdout", **case} if isinstance(case, Mapping) else case for case in cases],
        "time_limit": row.get("time_limit"),
        "memory_limit": row.get("memory_limit"),
        "checker": row.get("generated_checker"),
        "compare": "tokens",
    }


def ioi(row: Info) -> dict[str, Any]:
    """A subtask of open-r1/ioi in C++: the files of `graders/` are compiled with the submission, `checker/` judges.

    `test_cases` maps names to (input, output), or lists them in the order of `test_names`.
    """
    files = {str(name): text for name, text in _pairs(row.get("grader_files")) if text}
    beside = {PurePosixPath(n).name: t for n, t in files.items() if n.startswith("graders/") and _is_source(n)}
    if any(name.startswith(("manager.", "stub.")) for name in beside):
        raise NotSupported("a problem with a manager, which talks to the submission, is not graded")
    checkers = {PurePosixPath(n).name: t for n, t in files.items() if n.startswith("checker/") and _is_source(n)}
    main = next((name for name in checkers if name.endswith(".cpp")), None)
    return {
        "language": "cpp",
        "test_cases": _tests(row),
        "time_limit": row.get("time_limit"),
        "memory_limit": _megabytes(row.get("memory_limit")),
        "files": beside,
        "checker": main
        and {"language": "cpp", "code": checkers[main], "files": {n: t for n, t in checkers.items() if n != main}},
        "compare": "tokens",
        "includes": _includes(row),
    }


def _includes(row: Info) -> list[str]:
    """What Open-R1 puts before a submission that lacks it, since models leave it out."""
    name = row.get("problem_id") or row.get("id")
    return ["#include <bits/stdc++.h>", f'#include "{name}.h"'] if isinstance(name, str) else []


def _is_source(name: str) -> bool:
    return name.endswith((".cpp", ".h", ".hpp"))


def _pairs(value: Any) -> Sequence[tuple[Any, Any]]:
    """(name, text) pairs: an object, a list of pairs, or of {name, content}."""
    if isinstance(value, Mapping):
        return list(value.items())
    found = []
    for item in value or []:
        if isinstance(item, Mapping):
            found.append((item.get("name"), item.get("content")))
        elif isinstance(item, (list, tuple)) and len(item) == 2:
            found.append((item[0], item[1]))
    return found


def _tests(row: Info) -> Any:
    cases, names = row.get("test_cases"), row.get("test_names") or []
    if cases is None:
        raise NotSupported("the row has no test_cases; open-r1/ioi-test-cases holds them, by problem and test name")
    if isinstance(cases, Mapping):
        missing = [name for name in names if name not in cases]
        if missing:
            raise NotSupported(f"test_cases lacks {missing[0]}, which test_names lists")
        cases = [cases[name] for name in names] if names else list(cases.values())
    if not isinstance(cases, (list, tuple)):
        return cases
    return [_case(case) for case in cases]


def _case(case: Any) -> Any:
    if isinstance(case, (list, tuple)) and len(case) == 2:
        return {"type": "stdin_stdout", "input": case[0], "output": case[1]}
    return {"type": "stdin_stdout", **case} if isinstance(case, Mapping) else case


def _megabytes(value: Any) -> Any:
    """The dataset counts bytes, as Piston does."""
    return value / 2**20 if isinstance(value, (int, float)) and value > 2**20 else value
