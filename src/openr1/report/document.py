"""The parts a report is made of, without a format: sections of text, tables, figures and samples.

A section function returns these; `html` and `markdown` render them. A new kind of content is a new block and two
small renderers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["", "good", "bad", "quiet"]


@dataclass(frozen=True)
class Cell:
    """A table cell: the text, and below it in small what it rests on (an interval, a count)."""

    text: str
    sub: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Column:
    """`number`: right-aligned. `text`: sentences, which may break into lines of at least that many characters."""

    title: str
    number: bool = False
    text: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells under titles; `number` columns are right-aligned. `note` says what the numbers rest on."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]
    caption: str = ""
    note: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` between backticks."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Heading:
    """A heading inside a section, with a quiet line beside it."""

    title: str
    note: str = ""


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]
    tone: Tone = ""


@dataclass(frozen=True)
class Figure:
    """One chart: inline SVG, with a title and a sentence for those who cannot see it."""

    title: str
    svg: str
    alt: str
    width: int = 320


@dataclass(frozen=True)
class Panels:
    """Charts side by side, as many as fit. `legend` is one for all of them, `data` the same as numbers, folded."""

    figures: Sequence[Figure]
    data: Table | None = None
    legend: Sequence[Figure] = ()


@dataclass(frozen=True)
class Sample:
    """One completion with its verdict."""

    title: str
    text: str
    verdict: str
    tone: Tone
    detail: str = ""


@dataclass(frozen=True)
class Comparison:
    """The completions of several models to one question."""

    label: str
    question: str
    gold: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Pre:
    """Verbatim text: a command, a settings file."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks behind a line that opens them."""

    title: str
    blocks: Sequence[Block]
    opened: bool = False


Block = Table | Text | Heading | Bullets | Panels | Comparison | Pre | Fold | Figure


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def printable(text: str) -> str:
    """`text` with control characters and lone surrogates made visible, so that any page can carry it."""

    def shown(c: str) -> str:
        if c in "\n\t":
            return c
        if c < " ":
            return chr(0x2400 + ord(c))
        category = unicodedata.category(c)
        # bidi and other invisible controls could make a page read differently from what it holds
        return "\N{REPLACEMENT CHARACTER}" if category in ("Cc", "Cs", "Cf") and c != "\u200d" else c

    return "".join(map(shown, text))
