"""What an answer is read as."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from openr1.verify.algebra import canonical
from openr1.verify.grammar import Tree
from openr1.verify.lexer import NotMath


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `kind` says which of the fields hold; `lhs` is the name on the left of `=`, if there was one."""

    kind: str
    lhs: str | None = None
    tree: Tree | None = None
    unit: str | None = None
    percent: bool = False
    items: tuple[Answer, ...] = ()
    brackets: str = ""
    text: str = ""
    rows: int = 0
    variable: str | None = None
    decimal: bool = field(default=False, compare=False)


def rational_value(answer: Answer) -> int | Fraction | None:
    """The value of a scalar where it is rational."""
    if answer.kind != "scalar" or answer.tree is None:
        return None
    try:
        form = canonical(answer.tree)
    except NotMath:
        return None
    return None if form.opaque else form.rational()
