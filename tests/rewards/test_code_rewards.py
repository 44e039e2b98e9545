"""Rewards of programs on the datasets' own columns, in a real sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openr1.records import Prompt
from openr1.rewards import ComposedReward, RewardBatch, get_reward
from openr1.rewards.check import parameter_problems
from openr1.rewards.settings import RewardSettings

CASES = [{"type": "stdin_stdout", "input": str(i), "output": str(2 * i)} for i in (1, 2, 3, 4)]
CODEFORCES = {
    "official_tests": [{"input": c["input"], "output": c["output"]} for c in CASES],
    "generated_checker": None, "time_limit": 2.0, "memory_limit": 256.0, "input_mode": "stdio", "language": "python",
}  # fmt: skip


def block(program: str, language: str = "python") -> str:
    return f"<think>hm</think>\n```{language}\n{program}\n```"


def batch(programs: list[str], metadata: dict[str, Any], texts: list[str] | None = None) -> RewardBatch:
    completions = texts or [block(p) for p in programs]
    prompt = Prompt("t", [{"role": "user", "content": "?"}], None, "code", metadata=json.dumps(metadata))
    n = len(completions)
    return RewardBatch(completions, [prompt] * n, ["stop"] * n, [5] * n, 100, n)


RIGHT = "print(2 * int(input()))"
HALF = "n = int(input())\nprint(2 * n if n < 3 else 0)"


def test_code_is_the_share_of_tests_and_binary_code_all_of_them() -> None:
    rows = batch([RIGHT, HALF, "print(0)", "1 / 0"], {"verification_info": {"test_cases": CASES}})
    rows.completions.append("I do not know")
    rows = batch([], {"verification_info": json.dumps({"language": "python", "test_cases": CASES})}, rows.completions)
    assert get_reward("code")(rows) == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert get_reward("binary_code")(rows) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_tests_that_cannot_grade_mask_the_row() -> None:
    rows = batch([RIGHT], {"verification_info": {"test_cases": []}})
    for name in ("code", "binary_code", "codeforces", "ioi"):
        assert get_reward(name)(rows) == [None]
    settings = RewardSettings.model_validate({"parts": {"code": {}, "format_native": {}}})
    assert ComposedReward(settings)(rows).totals == [None]


def test_a_checker_that_breaks_masks_the_row() -> None:
    rows = batch([RIGHT], CODEFORCES | {"generated_checker": "raise SystemError('bug')"})
    assert get_reward("codeforces")(rows) == [None]


def test_codeforces_in_its_three_ways() -> None:
    rows = batch([RIGHT, HALF, ""], CODEFORCES)
    assert get_reward("codeforces")(rows) == pytest.approx([1.1, 0.05, -1.0])
    assert get_reward("codeforces")(rows, scoring="partial") == [1.0, 0.5, -1.0]
    assert get_reward("codeforces")(rows, scoring="pass_fail", no_program=0.0) == [1.0, 0.0, 0.0]


def test_codeforces_programs_that_do_not_compile() -> None:
    rows = batch([], CODEFORCES | {"language": "cpp"}, [block("int main() { return x; }", "cpp")])
    assert get_reward("codeforces")(rows) == [-0.1]


def test_a_checker_accepts_any_right_output() -> None:
    checker = "import sys\nprint(int(open(sys.argv[3]).read().strip() in ('1', 'one')))"
    rows = batch(
        ["print('one')", "print('two')"],
        {"official_tests": [{"input": "", "output": "1"}], "generated_checker": checker, "language": "python"},
    )
    assert get_reward("codeforces")(rows, scoring="partial") == [1.0, 0.0]


GRADER = '#include "double.h"\n#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d\\n", twice(n)); }\n'
IOI = {
    "id": "double", "subtask": "01", "score": 20, "time_limit": 2.0, "memory_limit": 256 * 2**20,
    "test_names": ["a", "b"], "test_cases": {"a": ["1", "2"], "b": ["7", "14"], "c": ["0", "1"]},
    "grader_files": [["graders/grader.cpp", GRADER], ["graders/double.h", "int twice(int);\n"], ["run.sh", "exit 1"]],
}  # fmt: skip


def test_ioi_is_the_least_credit_of_a_subtask() -> None:
    right = '#include "double.h"\nint twice(int n) { return 2 * n; }'
    once = '#include "double.h"\nint twice(int n) { return 2; }'
    plain = IOI | {"id": None}  # without Open-R1's includes, which take seconds to compile
    rows = batch([], plain, [block(right, "cpp"), block(once, "cpp"), "nothing"])
    assert get_reward("ioi")(rows) == [1.0, 0.0, 0.0]


def test_ioi_submissions_get_the_includes_that_models_leave_out() -> None:
    bare = "int twice(int n) { vector<int> v(n, 2); return accumulate(v.begin(), v.end(), 0); }"
    assert get_reward("ioi")(batch([], IOI, [block(bare, "cpp")])) == [1.0]


def test_rows_of_codeforces_only_count_their_generated_tests() -> None:
    rows = batch([RIGHT, HALF], CODEFORCES | {"generated_tests": 30, "official_tests_complete": False})
    assert get_reward("codeforces")(rows, scoring="pass_fail") == [1.0, 0.0]


def test_only_the_first_cases() -> None:
    rows = batch([RIGHT, HALF], {"verification_info": {"test_cases": CASES}})
    for name in ("code", "binary_code"):
        assert get_reward(name)(rows, max_cases=2) == [1.0, 1.0]
        assert get_reward(name)(rows)[1] in (0.5, 0.0)
    assert get_reward("codeforces")(batch([HALF], CODEFORCES), scoring="partial", max_cases=2) == [1.0]


def test_parameters_are_checked() -> None:
    assert parameter_problems("code", {"max_cases": 4}) == []
    for name, params in (("code", {"max_cases": 0}), ("codeforces", {"scoring": "all"}), ("ioi", {"max_cases": 1})):
        assert len(parameter_problems(name, params)) == 1


def test_a_problem_with_a_manager_is_masked() -> None:
    rows = batch(
        [], IOI | {"grader_files": [["graders/manager.cpp", "int main() {}"]]}, [block("int main() {}", "cpp")]
    )
    assert get_reward("ioi")(rows) == [None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think>\n<answer>\n```python\nprint(1)\n```\n</answer>", 1.0),
        ("<think>a</think>\n<answer>\n```python\nprint(1)\n```\n</answer>\nand more", 0.0),
        ("<think>a</think>\n<answer>\n```python\nprint(1)\n</answer>", 0.0),
        ("<think>a</think>\n<answer>\n```cpp\nint x;\n```\n</answer>", 0.0),
        ("<think>a</think>\n<answer>\nprint(1)\n</answer>", 0.0),
        ("<think>a\n```python\nprint(1)\n```\n</think>\n<answer>1</answer>", 0.0),
        ("```python\nprint(1)\n```", 0.0),
    ],
)
def test_code_format(text: str, value: float) -> None:
    assert get_reward("code_format")(batch([], {}, [text])) == [value]
