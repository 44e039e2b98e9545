"""Which program a completion answers with."""

from __future__ import annotations

import pytest

from openr1.verify.code.blocks import blocks, program_of


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("first\n```python\nprint(1)\n```\nno, rather\n```py\nprint(2)\n```\ndone", "print(2)\n"),
        ("```python\nprint(1)\n```\nIts output:\n```\n1\n```", "print(1)\n"),
        ("```\nprint(3)\n```", "print(3)\n"),
        ("<think>```python\nprint(0)\n```</think>\n```python\nprint(4)\n```", "print(4)\n"),
        ("<answer>\n```python\nprint(5)\n```\n</answer>", "print(5)\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("~~~python\nprint(6)\n~~~", "print(6)\n"),
        ("```Python3\nprint(7)\n```", "print(7)\n"),
        ("  ```python\n  x = 1\n    y = 2\n  ```", "x = 1\n  y = 2\n"),
        ("```python\nprint(8)", "print(8)"),
        ("def f():\n    return 1\n", "def f():\n    return 1"),
    ],
)
def test_the_last_block_of_the_language_counts(text: str, program: str) -> None:
    assert program_of(text, "python").text == program


@pytest.mark.parametrize(
    ("text", "finish", "status"),
    [
        ("I cannot solve this.", None, "no_answer"),
        ("hello", None, "no_answer"),
        ("42", None, "no_answer"),
        ("", None, "no_answer"),
        ("```cpp\nint main() {}\n```", None, "no_answer"),
        ("```python\n\n```", None, "no_answer"),
        ("<think>```python\nprint(1)\n```", None, "no_answer"),
        ("<think>```python\nprint(1)\n```", "length", "truncated"),
        ("```python\nprint(1)\n```\nor better\n```python\nprint(2", "length", "truncated"),
        ("def f():\n    return", "length", "truncated"),
    ],
)
def test_a_completion_without_a_program_says_why(text: str, finish: str | None, status: str) -> None:
    found = program_of(text, "python", finish)
    assert (found.text, found.status) == (None, status)


def test_a_program_that_ended_before_the_cut_counts() -> None:
    assert program_of("```python\nprint(1)\n```\nThis works beca", "python", "length").text == "print(1)\n"


def test_languages_are_told_apart() -> None:
    text = "```c++\nint main() { return 0; }\n```\n```python\nprint(1)\n```"
    assert program_of(text, "cpp").text == "int main() { return 0; }\n"
    assert program_of("#include <cstdio>\nint main() {}", "cpp").text is not None


def test_a_fence_is_closed_by_its_own_kind_only() -> None:
    found = blocks("```a\n~~~\n``\n```\n~~~b\n```\n~~~\n")
    assert [(b.tag, b.text, b.closed) for b in found] == [("a", "~~~\n``\n", True), ("b", "```\n", True)]
