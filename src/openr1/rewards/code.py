"""Rewards of programs, graded in the sandbox by the tests of each prompt; see `openr1.verify.code`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from openr1.rewards.form import is_strict
from openr1.rewards.types import RewardBatch
from openr1.verify.code.blocks import blocks, program_of
from openr1.verify.code.run import CodeResult
from openr1.verify.code.schemas import NotSupported, verification_info
from openr1.verify.code.suite import BadSuite, Suite, suite_of
from openr1.verify.code.verifier import grade_all

Scoring = Literal["pass_fail", "partial", "weighted_sum"]
Cases = Annotated[int, Field(ge=1)] | None
Value = Callable[[CodeResult], float]


def _values(
    batch: RewardBatch, full: bool, no_program: float, value: Value, max_cases: int | None = None
) -> list[float | None]:
    """`value` of each program's result, `no_program` where there is none; None (masked) where grading failed on our
    side: tests that cannot grade, a sandbox or a checker that broke. `max_cases`: only the first tests of a prompt."""
    suites: dict[int, Suite] = {}  # the samples of a group have one prompt
    rows: list[tuple[str, Suite] | None] = []
    fixed: dict[int, float | None] = {}
    for i, (text, prompt, finish) in enumerate(
        zip(batch.completions, batch.prompts, batch.finish_reasons, strict=True)
    ):
        rows.append(None)
        try:
            suite = suites.get(id(prompt)) or suite_of(prompt.info).first(max_cases)
        except BadSuite:
            fixed[i] = None
            continue
        suites[id(prompt)] = suite
        program = program_of(text, suite.language, finish).text
        if program is None:
            fixed[i] = no_program
        else:
            rows[i] = (program, suite)
    found = grade_all(rows, full)
    return [
        fixed[i] if i in fixed else None if timed is None or _ours(timed.result) else value(timed.result)
        for i, timed in enumerate(found)
    ]


def _ours(result: CodeResult) -> bool:
    return any(test.status == "infra_error" for test in result.tests)


def code(batch: RewardBatch, *, max_cases: Cases = None) -> list[float | None]:
    """The share of a prompt's tests that the program passes: Open-R1's `code_reward`. 0 where there is no program.

    `max_cases`: only the first tests of a prompt are run (null: all of them).
    """
    return _values(batch, True, 0.0, lambda result: result.credit, max_cases)


def binary_code(batch: RewardBatch, *, max_cases: Cases = None) -> list[float | None]:
    """1 where the program passes every test, else 0: Open-R1's `binary_code_reward`. Stops at the first failure.

    `max_cases`: only the first tests of a prompt are run (null: all of them).
    """
    return _values(batch, False, 0.0, lambda result: float(result.status == "correct"), max_cases)


def codeforces(
    batch: RewardBatch,
    *,
    scoring: Scoring = "weighted_sum",
    no_compile: float = -0.1,
    no_program: float = -1.0,
    max_cases: Cases = None,
) -> list[float | None]:
    """Open-R1's reward for rows of open-r1/codeforces.

    `pass_fail`: 1 where all tests pass. `partial`: the share that passes. `weighted_sum`: pass_fail + a tenth of the
    share. `no_compile` where a program does not compile, `no_program` where a completion has none. `max_cases`: only
    the first tests are run.
    """

    def value(result: CodeResult) -> float:
        if any((test.detail or "").startswith("compile error") for test in result.tests):
            return no_compile
        passed = float(result.status == "correct")
        if scoring == "pass_fail":
            return passed
        share = sum(test.status == "correct" for test in result.tests) / result.total
        return share if scoring == "partial" else passed + 0.1 * share

    return _values(batch, scoring != "pass_fail", no_program, value, max_cases)


def ioi(batch: RewardBatch) -> list[float | None]:
    """The score of a subtask of open-r1/ioi, 0 to 1: the least credit of any of its tests, as at the IOI."""

    def value(result: CodeResult) -> float:
        done = len(result.tests) == result.total
        return min(test.credit for test in result.tests) if done else 0.0

    return _values(batch, True, 0.0, value)


def code_format(batch: RewardBatch, *, language: str | None = None) -> list[float | None]:
    """1 where the completion is `<think>…</think><answer>…</answer>` with a block that names the language in it.

    Open-R1's `code_format_reward`, without its pattern's trailing rubbish and repeated blocks. `language`: null is the
    language of each prompt's tests.
    """
    wanted = [language or _language(prompt.info) for prompt in batch.prompts]
    return [_well_formed(text, name) for text, name in zip(batch.completions, wanted, strict=True)]


def _language(info: Mapping[str, Any]) -> str:
    try:
        found = verification_info(info)
    except NotSupported:
        return "python"
    return str(found.get("language") or "python") if isinstance(found, Mapping) else _of_text(found)


def _of_text(found: Any) -> str:
    try:
        return str(json.loads(found).get("language") or "python")
    except (TypeError, ValueError, AttributeError):
        return "python"


def _well_formed(text: str, language: str) -> float:
    answer = re.search(r"<answer>(.*)</answer>\s*$", text, re.DOTALL)
    if answer is None or not is_strict(text):
        return 0.0
    named = [block for block in blocks(answer[1]) if block.closed and block.text.strip()]
    return float(any(program_of(f"```{b.tag}\n{b.text}```", language).text for b in named if b.tag))
