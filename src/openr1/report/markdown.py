"""The report as Markdown: the same sections; a chart is replaced by its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from openr1.report.document import (
    Bullets,
    Cell,
    Comparison,
    Figure,
    Fold,
    Heading,
    Panels,
    Pre,
    Section,
    Table,
    Text,
    printable,
)


def document(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document."""
    parts = [f"# {escape(title)}", escape(lead)]
    for section in sections:
        parts += [f"## {escape(section.title)}", *(render(b) for b in section.blocks)]
    return "\n\n".join(p for p in parts if p) + "\n"


def escape(text: str) -> str:
    """Text of any origin on one line, safe from being read as HTML or as a table's border; `code` stays code."""
    flat = re.sub(r"\s+", " ", printable(text)).strip()
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def fenced(text: str) -> str:
    """Verbatim text in a fence longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


@singledispatch
def render(block: Any) -> str:
    """One block as Markdown."""
    raise TypeError(f"no Markdown for {type(block).__name__}")


@render.register
def _(block: Text) -> str:
    return escape(block.text)


@render.register
def _(block: Heading) -> str:
    return f"### {escape(block.title)}" + (f"\n\n{escape(block.note)}" if block.note else "")


@render.register
def _(block: Bullets) -> str:
    return "\n".join(f"- {escape(i)}" for i in block.items)


@render.register
def _(block: Pre) -> str:
    return fenced(block.text)


@render.register
def _(block: Fold) -> str:
    return "\n\n".join([f"**{escape(block.title)}**", *(render(b) for b in block.blocks)])


@render.register
def _(block: Figure) -> str:
    return f"*{escape(block.title)}*: {escape(block.alt)}"


@render.register
def _(block: Panels) -> str:
    return render(block.data) if block.data else "\n".join(f"- {render(f)}" for f in block.figures)


@render.register
def _(block: Table) -> str:
    head = "| " + " | ".join(escape(c.title) for c in block.columns) + " |"
    rule = "|" + "|".join(" ---: " if c.number else " --- " for c in block.columns) + "|"
    rows = ["| " + " | ".join(_cell(c) for c in row) + " |" for row in block.rows]
    parts = [f"**{escape(block.caption)}**"] if block.caption else []
    parts.append("\n".join([head, rule, *rows]))
    return "\n\n".join([*parts, *([escape(block.note)] if block.note else [])])


def _cell(raw: Cell | str) -> str:
    if isinstance(raw, str):
        return escape(raw)
    return escape(raw.text) + (f" ({escape(raw.sub)})" if raw.sub else "")


@render.register
def _(block: Comparison) -> str:
    gold = f"Gold answer: {escape(block.gold)}" if block.gold else ""
    parts = [f"#### {escape(block.label)}", fenced(block.question), gold]
    for s in block.samples:
        detail = f" ({escape(s.detail)})" if s.detail else ""
        parts += [f"{escape(s.title)}: **{escape(s.verdict)}**{detail}", fenced(s.text)]
    return "\n\n".join(p for p in parts if p)
