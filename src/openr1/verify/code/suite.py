"""The tests of a problem, read from a row's `verification_info`; what is wrong with them is one line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from openr1.errors import UserError, did_you_mean
from openr1.records import stable_hash
from openr1.sandbox import Limits
from openr1.sandbox.checks import sources
from openr1.sandbox.languages import language_of
from openr1.verify.code.asserts import Check, convert, entry_point, nothing_tested
from openr1.verify.code.compare import COMPARISONS, Comparison
from openr1.verify.code.schemas import NotSupported, verification_info

Kind = Literal["stdin_stdout", "function_call", "assert"]
MOST_TEXT = 50_000_000
KINDS: tuple[Kind, ...] = ("stdin_stdout", "function_call", "assert")


@dataclass(frozen=True)
class Test:
    """One case. `input` and `output` are texts of stdin and stdout, or JSON values of a call."""

    kind: Kind
    input: Any = None
    output: Any = None
    fn_name: str | None = None
    code: str = ""
    checks: tuple[Check, ...] = ()  # of asserts that could be converted


@dataclass(frozen=True)
class Checker:
    """A program that judges an output: `input.txt correct_output.txt output.txt` are its arguments."""

    language: str
    code: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """All that a program is tested with. `key` is the hash of it."""

    language: str
    tests: tuple[Test, ...]
    limits: Limits
    compare: Comparison
    tolerance: float | None
    checker: Checker | None
    files: Mapping[str, str]  # compiled or imported beside the program
    key: str
    includes: tuple[str, ...] = ()  # lines that a program gets put before it where it lacks them
    prepend: str = ""  # what stands before every program

    def first(self, count: int | None) -> Suite:
        """The suite with its first tests only."""
        if count is None or count >= len(self.tests):
            return self
        return replace(self, tests=self.tests[:count], key=f"{self.key}/{count}")


class BadSuite(ValueError):
    """The tests cannot grade anything; the text says why."""


def suite_of(info: Mapping[str, Any] | None) -> Suite:
    """The suite of a row: its `verification_info` (an object or a JSON string), a competition's columns, or the same
    keys directly.

    Raises BadSuite with one clear line.
    """
    try:
        return _suite(verification_info(info or {}))
    except NotSupported as error:
        raise BadSuite(str(error)) from None
    except RecursionError:
        raise BadSuite("verification_info is nested too deeply") from None


def _suite(given: Any) -> Suite:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise BadSuite(f"verification_info is no JSON ({error})") from None
    if not isinstance(given, Mapping):
        raise BadSuite(f"verification_info is {_kind(given)}; it must be an object with language and test_cases")
    language = _language(given.get("language") or "python")
    cases = given.get("test_cases")
    if isinstance(cases, str):
        try:
            cases = json.loads(cases)
        except ValueError as error:
            raise BadSuite(f"test_cases is no JSON ({error})") from None
    if not isinstance(cases, (list, tuple)) or not cases:
        raise BadSuite("test_cases has no case; nothing can be graded" if cases in ([], ()) else _no_cases(given))
    tests = tuple(_test(case, i, language, given) for i, case in enumerate(cases))
    most = given.get("max_cases")
    if most is not None:
        tests = tests[: _count(most, "max_cases")]
    compare = given.get("compare") or "lines"
    if compare not in COMPARISONS:
        raise BadSuite(f"compare: {compare!r} is not known; {did_you_mean(str(compare), COMPARISONS)}")
    return Suite(
        language=language,
        tests=tests,
        limits=_limits(given),
        compare=compare,
        tolerance=_number(given.get("tolerance"), "tolerance"),
        checker=_checker(given.get("checker")),
        files=_files(given.get("files") or {}, "files", language_of(language).source),
        key=stable_hash(_plain(given), length=32),
        includes=tuple(given.get("includes") or ()),
        prepend=_prepend(given.get("prepend")),
    )


def _plain(value: Any) -> Any:
    """What a hash can be taken of: Arrow hands maps and arrays over in types of its own."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    raise BadSuite(f"verification_info holds a {type(value).__name__}; only what JSON has is read")


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _no_cases(given: Mapping[str, Any]) -> str:
    if "test_cases" not in given:
        near = did_you_mean("test_cases", [str(k) for k in given]) if given else "it is empty"
        return f"verification_info has no test_cases; {near}"
    return f"test_cases is {_kind(given['test_cases'])}; it must be a list of cases"


def _language(name: Any) -> str:
    try:
        return language_of(name).name
    except UserError as error:
        raise BadSuite(str(error)) from None


def _test(case: Any, number: int, language: str, given: Mapping[str, Any]) -> Test:
    where = f"test case {number}"
    if not isinstance(case, Mapping):
        raise BadSuite(f"{where} is {_kind(case)}; it must be an object")
    kind = case.get("type") or _guess(case, given)
    if kind not in KINDS:
        raise BadSuite(f"{where}: type {kind!r} is not known; {did_you_mean(str(kind), KINDS)}")
    if kind != "stdin_stdout" and language != "python":
        raise BadSuite(f"{where}: type {kind} is for Python, the language is {language}; use stdin_stdout")
    if kind == "stdin_stdout":
        return Test(kind, input=_text(case, "input", where), output=_text(case, "output", where))
    if kind == "function_call":
        name = case.get("fn_name") or given.get("fn_name")
        return Test(kind, input=_arguments(case, where), output=_expected(case, where), fn_name=_name(name, where))
    code = case.get("code")
    if not isinstance(code, str) or not code.strip():
        raise BadSuite(f"{where}: type assert needs `code`, the text of the asserts")
    entry = case.get("entry_point") or given.get("entry_point") or entry_point(code)
    name = _name(entry, where) if entry is not None else None
    if why := nothing_tested(code, name):
        raise BadSuite(f"{where}: {why}")
    return Test(kind, code=code, fn_name=name, checks=tuple(convert(code, name) or ()))


def _guess(case: Mapping[str, Any], given: Mapping[str, Any]) -> Kind:
    """The type of a case that names none."""
    if "code" in case:
        return "assert"
    return "function_call" if case.get("fn_name") or given.get("fn_name") else "stdin_stdout"


def _name(name: Any, where: str) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise BadSuite(f"{where}: the function's name is {name!r}; it must be a Python name")
    return name


def _text(case: Mapping[str, Any], key: str, where: str) -> str:
    value = case.get(key)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    if not isinstance(value, str):
        raise BadSuite(f"{where}: {key} is {_kind(value)}; it must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSuite(f"{where}: {key} holds half of a surrogate pair, which no encoding holds") from None
    if len(value) > MOST_TEXT:
        raise BadSuite(f"{where}: {key} has {len(value):,} characters; at most {MOST_TEXT:,} are taken")
    return value


def _arguments(case: Mapping[str, Any], where: str) -> Any:
    """The arguments of a call: JSON, or one JSON value a line, one for each argument."""
    if "input" not in case:
        raise BadSuite(f"{where}: input is missing; give the arguments as JSON, [] for none")
    value = case["input"]
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in value.splitlines() if line.strip()]
    except ValueError:
        raise BadSuite(f"{where}: input is no JSON: {value[:60]!r}") from None


def _expected(case: Mapping[str, Any], where: str) -> Any:
    if "output" not in case:
        raise BadSuite(f"{where}: output is missing; give the expected value as JSON")
    value = case["output"]
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value  # a text that was not written as JSON stands for itself
    return value


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise BadSuite(f"{name}: {value!r} is no number of at least 0")
    return float(value)


def _count(value: Any, name: str) -> int:
    number = _number(value, name)
    if number is None or number < 1:
        raise BadSuite(f"{name}: {value!r}; at least 1")
    return int(number)


def _limits(given: Mapping[str, Any]) -> Limits:
    """`time_limit` (CPU seconds) and `memory_limit` (MB) of the problem; the sandbox's own where it has none."""
    cpu = _number(given.get("time_limit"), "time_limit")
    memory = _number(given.get("memory_limit"), "memory_limit")
    changes: dict[str, Any] = {}
    if cpu:
        changes |= {"cpu_s": cpu, "wall_s": max(Limits().wall_s, 4 * cpu)}
    if memory:
        changes["memory_mb"] = max(int(memory), 64)
    try:
        return Limits(**changes)
    except ValueError as error:
        raise BadSuite(f"time_limit or memory_limit: {' '.join(str(error).split())[:200]}") from None


def _files(value: Any, what: str, main: str, text: str = "") -> dict[str, str]:
    """Files that stand beside the program `main`, which none of them may replace."""
    if not isinstance(value, Mapping) or not all(isinstance(x, str) for pair in value.items() for x in pair):
        raise BadSuite(f"{what}: {_kind(value)}; it must map file names to texts")
    if main in value:
        raise BadSuite(f"{what}: {main} is the program's own name; give the file another")
    try:
        sources({main: text, **value}, main)
    except UserError as error:
        raise BadSuite(f"{what}: {error}") from None
    return dict(value)


def _prepend(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise BadSuite(f"prepend is {_kind(value)}; it must be text that stands before the program")
    return value or ""


def _checker(value: Any) -> Checker | None:
    if not value:
        return None
    if isinstance(value, str):
        value = {"code": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("code"), str):
        raise BadSuite("checker: it must be the text of a Python program, or an object with language and code")
    language = _language(value.get("language") or "python")
    beside = _files(value.get("files") or {}, "checker", language_of(language).source, value["code"])
    return Checker(language, value["code"], beside)
