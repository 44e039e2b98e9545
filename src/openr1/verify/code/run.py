"""A program against the tests of its problem: what ran in the sandbox is judged here, test by test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from openr1.errors import UserError
from openr1.records import Status
from openr1.sandbox import Case, Limits, Outcome, Sandbox
from openr1.sandbox.checks import sources
from openr1.sandbox.languages import language_of
from openr1.verify.code import calls
from openr1.verify.code.compare import TOLERANCE, same_output, same_value
from openr1.verify.code.suite import Checker, Suite, Test
from openr1.verify.code.values import as_json, decode

RETRIES = 2
TRUSTED_LEAST = "assert_in_sandbox"
CHECKER_LIMITS = Limits(cpu_s=20, wall_s=60, memory_mb=1024, output_mb=1, files_mb=256)
MB = 1 << 20
NAMES = {"stdin_stdout": "stdout", "function_call": "call", "assert": "asserts"}
# how a run ended -> the status of its test; `ok` is compared
STATUS: dict[str, Status] = {
    "error": "error", "compile_error": "error", "memory": "error", "output_limit": "error", "cpu_timeout": "timeout",
    "wall_timeout": "timeout", "infra_error": "infra_error",
}  # fmt: skip


@dataclass
class TestResult:
    """What became of one test: its status, and the credit for it (1 or 0; a checker may give a part)."""

    status: Status
    credit: float
    decided_by: str
    detail: str | None = None


@dataclass
class CodeResult:
    """The results of the tests that ran, in order; without `full` the first failure is the last of them."""

    total: int
    tests: list[TestResult] = field(default_factory=list)

    @property
    def deciding(self) -> TestResult:
        """The first test that failed, or the one of the least trust."""
        failed = next((t for t in self.tests if t.status == "infra_error"), None)
        failed = failed or next((t for t in self.tests if t.status != "correct"), None)
        return failed or next((t for t in self.tests if t.decided_by == TRUSTED_LEAST), self.tests[0])

    @property
    def status(self) -> Status:
        return self.deciding.status

    @property
    def credit(self) -> float:
        """Credit over the number of tests, 0 to 1; of a full run."""
        return sum(t.credit for t in self.tests) / self.total

    @property
    def detail(self) -> str | None:
        passed = sum(t.status == "correct" for t in self.tests)
        why = self.deciding.detail
        return f"{passed} of {self.total} tests passed" + (f"; {why}" if why else "")


def grade_program(program: str, suite: Suite, sandbox: Sandbox, full: bool = False) -> CodeResult:
    """Run `program` against the suite. Without `full` it ends with the first test that fails.

    Raises UserError where the language's tool is missing, OutsideError where nothing isolates.
    """
    program = _with_includes(program, suite)
    files = {language_of(suite.language).source: program, **suite.files}
    try:
        sources(files, "")
    except UserError as error:  # the model's program cannot be one: a NUL, half a surrogate pair, megabytes
        return CodeResult(len(suite.tests), [TestResult("error", 0.0, "program", str(error))])
    result = CodeResult(len(suite.tests))
    for test in suite.tests:
        result.tests.append(TestResult("infra_error", 0.0, NAMES[test.kind]))
    ran = 0
    for group in _groups(suite):
        done = group(program, files, suite, sandbox, full)
        result.tests[ran : ran + len(done)] = done
        ran += len(done)
        if not full and done[-1].status != "correct":
            break
    del result.tests[ran:]
    return result


def _with_includes(program: str, suite: Suite) -> str:
    """The program behind the lines that it lacks; `using namespace std` too where it names no namespace at all."""
    if suite.prepend:
        return program if "from __future__" in program else f"{suite.prepend}\n{program}"
    missing = [line for line in suite.includes if line not in program]
    if suite.includes and "using namespace std" not in program and "std::" not in program:
        missing.append("using namespace std;")
    return "\n".join([*missing, "#line 1", program]) if missing else program


Group = Callable[[str, dict[str, str], Suite, Sandbox, bool], list[TestResult]]


def _groups(suite: Suite) -> list[Group]:
    """The tests in order, neighbours that run the same program together."""
    groups: list[tuple[str, list[Test]]] = []
    for test in suite.tests:
        kind = test.kind
        if kind == "stdin_stdout" and suite.checker:
            kind_name = "checked"
        elif kind == "assert":
            kind_name = f"assert {len(groups)}"  # each by itself
        else:
            kind_name = kind
        if groups and groups[-1][0] == kind_name:
            groups[-1][1].append(test)
        else:
            groups.append((kind_name, [test]))
    return [_group(name, tests) for name, tests in groups]


def _group(name: str, tests: list[Test]) -> Group:
    if name == "stdin_stdout":
        return lambda program, files, suite, box, full: _by_output(tests, files, suite, box, full)
    if name == "checked":
        return lambda program, files, suite, box, full: _by_checker(tests, files, suite, box, full)
    if name == "function_call":
        return lambda program, files, suite, box, full: _by_call(tests, program, suite, box, full)
    [test] = tests
    if test.checks:
        return lambda program, files, suite, box, full: [_by_checks(test, program, suite, box)]
    return lambda program, files, suite, box, full: [_in_sandbox(test, program, suite, box)]


# ------------------------------------------------------------------------------------------------------------- running
def _run(
    sandbox: Sandbox,
    program: Any,
    language: str,
    inputs: Sequence[str | Case],
    limits: Limits,
    judge: Callable[[int, Outcome], TestResult],
    full: bool,
) -> list[TestResult]:
    """One result an input, up to the first failure unless `full`. A run that failed on our side is tried again."""
    results: list[TestResult] = []
    tries = 0
    while len(results) < len(inputs):
        first = len(results)

        def stop(index: int, outcome: Outcome, first: int = first) -> bool:
            results.append(judge(first + index, outcome))
            return results[-1].status == "infra_error" or (not full and results[-1].status != "correct")

        outcomes = sandbox.run(program, language, inputs[first:], limits=limits, stop=stop)
        for index in range(len(results) - first, len(outcomes)):  # those of a program that never ran
            if stop(index, outcomes[index]):
                break
        last = results[-1]
        if last.status == "infra_error" and tries < RETRIES:
            tries += 1
            results.pop()
        elif not full and last.status != "correct":
            break
    return results


def _failed(outcome: Outcome, decided_by: str) -> TestResult:
    lines = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
    why = outcome.status.replace("_", " ") + (f": {lines[-1][:200]}" if lines else "")
    return TestResult(STATUS[outcome.status], 0.0, decided_by, why)


def _judged(same: bool, decided_by: str, detail: str) -> TestResult:
    return TestResult("correct", 1.0, decided_by) if same else TestResult("wrong", 0.0, decided_by, detail)


def _by_output(tests: list[Test], files: Any, suite: Suite, sandbox: Sandbox, full: bool) -> list[TestResult]:
    def judge(index: int, outcome: Outcome) -> TestResult:
        if outcome.status != "ok":
            return _failed(outcome, "stdout")
        same = same_output(outcome.stdout, tests[index].output.encode(), suite.compare, suite.tolerance)
        return _judged(same, "stdout", "another output than expected")

    return _run(sandbox, files, suite.language, [t.input for t in tests], suite.limits, judge, full)


def _by_call(tests: list[Test], program: str, suite: Suite, sandbox: Sandbox, full: bool) -> list[TestResult]:
    tolerance = TOLERANCE if suite.tolerance is None else suite.tolerance

    def judge(index: int, outcome: Outcome) -> TestResult:
        if outcome.status != "ok":
            return _failed(outcome, "call")
        try:
            found = as_json(decode(outcome.stdout))
        except ValueError:
            return TestResult("wrong", 0.0, "call", "the function returned nothing that JSON could hold")
        return _judged(same_value(found, tests[index].output, tolerance), "call", "another value than expected")

    requests = [calls.json_request(str(t.fn_name), t.input) for t in tests]
    return _run(sandbox, _python(program, suite), "python", requests, suite.limits, judge, full)


def _python(program: str, suite: Suite) -> dict[str, str]:
    return {language_of("python").source: calls.call_program(program), **suite.files}


def _by_checks(test: Test, program: str, suite: Suite, sandbox: Sandbox) -> TestResult:
    """Asserts as calls: each call by itself, the expression over the results here."""
    owners = [(check, i) for check in test.checks for i in range(len(check.calls))]
    values: list[Any] = []

    def judge(index: int, outcome: Outcome) -> TestResult:
        check, place = owners[index]
        if outcome.status != "ok":
            return _failed(outcome, "asserts")
        try:
            values.append(decode(outcome.stdout))
        except ValueError:
            return TestResult("wrong", 0.0, "asserts", "the function returned nothing that can be compared")
        if place < len(check.calls) - 1:
            return TestResult("correct", 1.0, "asserts")
        results = values[-len(check.calls) :]
        return _judged(check.holds(results), "asserts", "an assert does not hold")

    name = str(test.fn_name)
    requests = [calls.literal_request(name, c.calls[i].positional, c.calls[i].keywords) for c, i in owners]
    return _run(sandbox, _python(program, suite), "python", requests, suite.limits, judge, full=False)[-1]


def _in_sandbox(test: Test, program: str, suite: Suite, sandbox: Sandbox) -> TestResult:
    """Asserts that no call stands for, beside the candidate: of lower trust, and the verdict says so."""
    token = secrets.token_hex(16)

    def judge(index: int, outcome: Outcome) -> TestResult:
        if outcome.status == "error" and b"AssertionError" in outcome.stderr.rpartition(b"\n  ")[2]:
            return TestResult("wrong", 0.0, TRUSTED_LEAST, "an assert does not hold")
        if outcome.status != "ok":
            return _failed(outcome, TRUSTED_LEAST)
        return _judged(outcome.stdout == token.encode(), TRUSTED_LEAST, "the program ended before its tests")

    source = calls.assert_program(program, test.code, test.fn_name)
    files = {language_of("python").source: source, **suite.files}
    return _run(sandbox, files, "python", [token], suite.limits, judge, full=False)[-1]


# ------------------------------------------------------------------------------------------------------------- checker
def _by_checker(tests: list[Test], files: Any, suite: Suite, sandbox: Sandbox, full: bool) -> list[TestResult]:
    """Outputs judged by a program in a sandbox of its own, which the submission never sees."""
    assert suite.checker is not None
    results: list[TestResult] = []
    for test in tests:
        outputs: list[bytes] = []

        def judge(index: int, outcome: Outcome, outputs: list[bytes] = outputs) -> TestResult:
            outputs.append(outcome.stdout)
            return _failed(outcome, "checker") if outcome.status != "ok" else TestResult("correct", 1.0, "checker")

        [ran] = _run(sandbox, files, suite.language, [test.input], suite.limits, judge, full=True)
        if ran.status == "correct":
            ran = _ask_checker(suite.checker, test, outputs[-1], sandbox)
        results.append(ran)
        if not full and ran.status != "correct":
            break
    return results


def _ask_checker(checker: Checker, test: Test, output: bytes, sandbox: Sandbox) -> TestResult:
    case = Case(
        arguments=("input.txt", "correct_output.txt", "output.txt"),
        files={"input.txt": test.input, "correct_output.txt": test.output, "output.txt": output},
    )
    program = {language_of(checker.language).source: checker.code, **checker.files}
    if (size := sum(map(len, (test.input.encode(), test.output.encode(), output))) / MB) > CHECKER_LIMITS.files_mb:
        return TestResult("infra_error", 0.0, "checker", f"the checker would be given {size:.0f} MB")
    [result] = _run(sandbox, program, checker.language, [case], CHECKER_LIMITS, lambda _, o: _checked(o), full=True)
    return result


def _checked(outcome: Outcome) -> TestResult:
    """What a checker says: a number from 0 to 1 on stdout, or testlib's exit codes. Its own failure is ours."""
    said = outcome.stdout.strip()
    try:
        credit = float(said.split()[0]) if said and outcome.status == "ok" else None
    except ValueError:
        credit = None
    if credit is not None and 0 <= credit <= 1:
        return TestResult("correct" if credit == 1 else "wrong", credit, "checker", f"the checker gives {credit:g}")
    if outcome.status == "ok":
        return TestResult("correct", 1.0, "checker")
    if outcome.status == "error" and outcome.exit_code in (1, 2) and not _raised(outcome):
        return TestResult("wrong", 0.0, "checker", "the checker refuses the output")
    why = f"the checker failed ({outcome.status})"
    return TestResult("infra_error", 0.0, "checker", why)


def _raised(outcome: Outcome) -> bool:
    """Whether a Python checker ended with an exception, whose exit code is 1 too."""
    return b"Traceback (most recent call last)" in outcome.stderr
