"""Where the final answer is: boxes, answer blocks, anchors, reasoning that is open or prefilled."""

from __future__ import annotations

import pytest

from openr1.verify import grade
from openr1.verify.extract import Reasoning, final_answer, last_boxed, split_reasoning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think>b", Reasoning("a", "b", closed=True, opened=True)),
        ("a</think>b", Reasoning("a", "b", closed=True, opened=True)),
        ("<think>a", Reasoning("a", "", closed=False, opened=True)),
        ("just text", Reasoning(None, "just text", closed=False, opened=False)),
        ("", Reasoning(None, "", closed=False, opened=False)),
        ("<think>a</think>b</think>c", Reasoning("a</think>b", "c", closed=True, opened=True)),
    ],
)
def test_split_reasoning(text: str, expected: Reasoning) -> None:
    assert split_reasoning(text) == expected


def test_reasoning_that_opens_again_leaves_no_answer() -> None:
    parts = split_reasoning("<think>a</think>b<think>c")
    assert (parts.answer, parts.closed, parts.opened) == ("", False, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{113} wait no \boxed{204}", "204"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{x\right.}", r"\left\{x\right."),
        (r"\boxed {5}", "5"),
        (r"\boxed 5", "5"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{a \boxed{b} c}", r"a \boxed{b} c"),
        (r"stray } \boxed{3} {", "3"),
        (r"\boxedness{3}", None),
        ("none", None),
        (r"\boxed{", None),
    ],
)
def test_last_boxed(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<think>\boxed{7}</think><answer>I do not know</answer>", "I do not know"),
        (r"<answer>8</answer> rather \boxed{7}", "7"),
        (r"\boxed{8} <answer>7</answer>", "7"),
        (r"<answer>so \boxed{7}</answer>", "7"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        (r"<think>\boxed{7}</think>", None),
        (r"<think>\boxed{7}", None),
        (r"\boxed{7}</think>", None),
        ("x\n#### 18", "18"),
        ("The answer is 42.", "42"),
        ("Answer: 3.5", "3.5"),
        ("The final answer is $x+1$. I hope it is right.", "$x+1$"),
        ("42", "42"),
        ("I am not at all sure about what to say here, sorry for that.", None),
        ("", None),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "reason", "status"),
    [
        ("<think>still thinking", "length", "truncated"),
        ("<think>still thinking", "stop", "no_answer"),
        (r"<think>so \boxed{7}", "length", "truncated"),
        (r"<think>so \boxed{7}", None, "no_answer"),
        (r"<think>a</think>\boxed{7}", "length", "correct"),
        (r"<think>a</think>\boxed{8}", "length", "wrong"),
        ("<think>a</think><answer>7</answer>", "length", "correct"),
        ("<think>a</think><answer>7", "length", "truncated"),
        ("<think>a</think>The answer is 7", "length", "truncated"),
        ("<think>a</think>The answer is 7", "stop", "correct"),
        ("<think>a</think>", "length", "truncated"),
        ("", "length", "truncated"),
        ("", "stop", "no_answer"),
    ],
)
def test_truncation_has_a_status_of_its_own(text: str, reason: str | None, status: str) -> None:
    (verdict,) = grade(["7"], [text], finish_reason=[reason])
    assert verdict.status == status
