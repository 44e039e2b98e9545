"""Which program a completion answers with: the last fenced block of the right language behind the reasoning."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

from openr1.errors import UserError
from openr1.records import Status
from openr1.sandbox import LANGUAGES
from openr1.sandbox.languages import language_of
from openr1.verify.base import Extracted
from openr1.verify.extract import split_reasoning

_FENCE = re.compile(r"([ \t]{0,12})(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*")
_UNNAMED = ("", "code", "text", "plaintext", "txt")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: what its fence names, what is in it, and whether its end was seen."""

    tag: str
    text: str
    closed: bool


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a text in order; a fence closes only what was opened by the same sign, as long or longer.
    What a fence is indented by (in a list) is taken off its lines.

    >>> blocks("so\\n```python\\nprint(1)\\n```")
    [Block(tag='python', text='print(1)\\n', closed=True)]
    """
    found: list[Block] = []
    fence, tag, indent = "", "", ""
    inside: list[str] = []
    for line in text.splitlines(keepends=True):
        match = _FENCE.fullmatch(line.rstrip("\r\n"))
        if not fence:
            if match:
                indent, fence, tag, inside = match[1], match[2], match[3].strip("{}.").lower(), []
        elif match and not match[3] and match[2][0] == fence[0] and len(match[2]) >= len(fence):
            found.append(Block(tag, "".join(inside), closed=True))
            fence = ""
        else:
            inside.append(line.removeprefix(indent))
    if fence:
        found.append(Block(tag, "".join(inside), closed=False))
    return found


def program_of(completion: str, language: str, finish_reason: str | None = None) -> Extracted:
    """The program of a completion, or the status that says why there is none.

    The last block that names the language counts, else the last one that names none. A text without any fence is a
    program where it parses as one (Python) or includes a header (C, C++). A last block whose end was not seen is
    `truncated` where the completion was cut, and taken as it is where the model ended there.
    """
    parts = split_reasoning(completion)
    cut = finish_reason == "length"
    missing: Status = "truncated" if cut else "no_answer"
    if parts.opened and not parts.closed:
        return Extracted(None, missing, "the reasoning is not closed")
    there = blocks(parts.answer)
    if not there:
        bare = parts.answer.strip()
        if cut or not bare or not _reads_as_program(bare, language):
            return Extracted(None, missing, "no fenced block")
        return Extracted(bare)
    mine = [b for b in there if _is(b.tag, language)] or [b for b in there if b.tag in _UNNAMED]
    if not mine:
        return Extracted(None, missing, f"no fenced block of {language}")
    last = mine[-1]
    if not last.closed and cut:
        return Extracted(None, "truncated", "the program was cut off")
    return Extracted(last.text) if last.text.strip() else Extracted(None, missing, "the block is empty")


def _is(tag: str, language: str) -> bool:
    return tag in LANGUAGES and LANGUAGES[tag] is language_of(language)


def _reads_as_program(text: str, language: str) -> bool:
    try:
        name = language_of(language).name
    except UserError:
        return False
    if name in ("c", "cpp"):
        return "#include" in text
    if name != "python":
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not _says_nothing(statement) for statement in tree.body)


def _says_nothing(statement: ast.stmt) -> bool:
    """A word or a number by itself, which any text of one word is."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, (ast.Name, ast.Constant, ast.Tuple))
