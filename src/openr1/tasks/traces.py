"""Worked traces of arithmetic in the think/answer form: one short step a column, from the ones upwards.

Three kinds: `clean`; `forgotten`, where no carry (or borrow) is ever taken along, a systematic misconception whose
answer is wrong whenever there was one; `corrected`, where it is forgotten, noticed (`wait`) and the step done again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

SEMICOLON = ";"


def wrap(steps: Sequence[str], answer: str, connective: Callable[[], str] = lambda: SEMICOLON) -> str:
    """A completion in the think/answer form, `connective()` between each step and the next."""
    body = steps[0] + "".join(connective() + step for step in steps[1:])
    return f"<think>{body}</think>\n<answer>\\boxed{{{answer}}}</answer>"


def result(operation: str, operands: Sequence[int]) -> int:
    """The right answer."""
    if operation == "add":
        return sum(operands)
    if operation == "sub":
        return operands[0] - sum(operands[1:])
    return math.prod(operands)


def trace(
    operation: str, operands: Sequence[int], mode: str, connective: Callable[[], str] = lambda: SEMICOLON
) -> str:
    """A worked trace of the given kind, of non-negative operands of any length.

    >>> trace("add", [17, 8], "clean")
    '<think>7+8+0=15;1+0+1=2</think>\\n<answer>\\\\boxed{25}</answer>'
    """
    if operation == "add":
        steps, answer = add_steps(operands, mode)
    elif operation == "sub":
        steps, answer = sub_steps(operands[0], operands[1], mode)
    else:
        steps, answer = mul_steps(operands[0], operands[1], mode)
    return wrap(steps, str(answer), connective)


def _columns(operands: Sequence[int]) -> list[list[int]]:
    """The digits of each column, ones first; a missing digit is 0."""
    texts = [str(n)[::-1] for n in operands]
    return [[int(t[i]) if i < len(t) else 0 for t in texts] for i in range(max(map(len, texts)))]


def add_steps(operands: Sequence[int], mode: str) -> tuple[list[str], int]:
    """Columns `digits + carry = sum`, and the sum they lead to."""
    steps: list[str] = []
    carry, total, place = 0, 0, 1
    for digits in _columns(operands):
        column = "+".join(map(str, digits))
        right = sum(digits) + carry
        if carry and mode != "clean":
            steps.append(f"{column}+0={sum(digits)}")
            if mode == "corrected":
                steps.append(f"wait{column}+{carry}={right}")
            else:
                right = sum(digits)
        else:
            steps.append(f"{column}+{carry}={right}")
        total += right % 10 * place
        carry, place = right // 10, place * 10
    return steps, total + carry * place


def sub_steps(a: int, b: int, mode: str) -> tuple[list[str], int]:
    """Columns `digit - digit - borrow = difference`, the first digit raised by ten where it must borrow (a >= b)."""
    steps: list[str] = []
    borrow, total, place = 0, 0, 1
    for x, y in _columns([a, b]):

        def step(taken: int, x: int = x, y: int = y) -> tuple[str, int, int]:
            top = x if x - y - taken >= 0 else x + 10
            return f"{top}-{y}-{taken}={top - y - taken}", top - y - taken, int(top > x)

        text, digit, lends = step(borrow)
        if borrow and mode != "clean":
            careless, *found = step(0)
            steps.append(careless)
            if mode == "corrected":
                steps.append("wait" + text)
            else:
                digit, lends = found
        else:
            steps.append(text)
        total += digit * place
        borrow, place = lends, place * 10
    return steps, total


def mul_steps(a: int, b: int, mode: str) -> tuple[list[str], int]:
    """Partial products by the digits of b, then their sum column by column."""
    parts = [a * int(d) * 10**i for i, d in enumerate(str(b)[::-1])]
    steps = [f"{a}*{int(d) * 10**i}={part}" for (i, d), part in zip(enumerate(str(b)[::-1]), parts, strict=True)]
    if len(parts) == 1:
        return steps, parts[0]
    sums, total = add_steps(parts, mode)
    return steps + sums, total
