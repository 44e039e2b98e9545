"""The report as one self-contained HTML file: no script, no request, light and dark, wide and narrow."""

from __future__ import annotations

import html as escape_module
import re
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from openr1.report.document import (
    Bullets,
    Cell,
    Column,
    Comparison,
    Figure,
    Fold,
    Heading,
    Panels,
    Pre,
    Sample,
    Section,
    Table,
    Text,
    printable,
)
from openr1.report.style import CSS

LONG_CHARACTERS, LONG_LINES, EXCERPT = 700, 16, 320
# The page may show itself and nothing else: whatever a completion contains, no browser fetches or runs anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document. `lead` is the line below the title."""
    entries = "".join(f'<li><a href="#{s.anchor}">{esc(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title"><h2 id="{s.anchor}-title">{esc(s.title)}</h2>'
        f"{blocks(s.blocks)}</section>"
        for s in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{esc(title)}</title><style>{CSS}</style></head>'
        f'<body><div class="page"><header><h1>{esc(title)}</h1><p class="lead">{inline(lead)}</p></header>'
        f'<nav aria-label="Contents"><p class="nav-title">Contents</p><ol>{entries}</ol></nav>'
        f"<main>{body}</main></div></body></html>\n"
    )


def esc(text: Any) -> str:
    """Text of any origin, safe inside an element or a quoted attribute."""
    return escape_module.escape(printable(str(text)), quote=True)


def inline(text: str) -> str:
    """Escaped text with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", esc(text))


def blocks(items: Sequence[Any]) -> str:
    return "".join(render(b) for b in items)


@singledispatch
def render(block: Any) -> str:
    """One block as HTML."""
    raise TypeError(f"no HTML for {type(block).__name__}")


@render.register
def _(block: Text) -> str:
    return f"<p{_tone(block.tone)}>{inline(block.text)}</p>"


@render.register
def _(block: Heading) -> str:
    note = f" <small>{inline(block.note)}</small>" if block.note else ""
    return f"<h3>{inline(block.title)}{note}</h3>"


@render.register
def _(block: Bullets) -> str:
    return f"<ul{_tone(block.tone)}>" + "".join(f"<li>{inline(i)}</li>" for i in block.items) + "</ul>"


@render.register
def _(block: Pre) -> str:
    return f'<pre class="verbatim" tabindex="0">{esc(block.text)}</pre>'


@render.register
def _(block: Fold) -> str:
    opened = " open" if block.opened else ""
    return f"<details{opened}><summary>{inline(block.title)}</summary>{blocks(block.blocks)}</details>"


@render.register
def _(block: Figure) -> str:
    return f'<figure style="max-width:{block.width}px">{_chart(block)}</figure>'


@render.register
def _(block: Panels) -> str:
    figures = "".join(f"<figure>{_chart(f)}</figure>" for f in block.figures)
    data = render(Fold("The same as numbers", [block.data])) if block.data else ""
    entries = "".join(f"<li>{f.svg}{esc(f.title)}</li>" for f in block.legend)
    legend = f'<ul class="legend">{entries}</ul>' if entries else ""
    return f'{legend}<div class="panels">{figures}</div>{data}'


def _chart(block: Figure) -> str:
    return f"<figcaption>{esc(block.title)}</figcaption>{block.svg}"


@render.register
def _(block: Table) -> str:
    head = "".join(f'<th scope="col"{_column(c)}>{esc(c.title)}</th>' for c in block.columns)
    rows = "".join(_row(row, block.columns) for row in block.rows)
    caption = f"<caption>{inline(block.caption)}</caption>" if block.caption else ""
    label = esc(block.caption or "table")
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    note = f'<p class="note">{inline(block.note)}</p>' if block.note else ""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>{note}'


def _row(row: Sequence[Cell | str], columns: Sequence[Column]) -> str:
    out = []
    for i, (raw, column) in enumerate(zip(row, columns, strict=True)):
        cell = raw if isinstance(raw, Cell) else Cell(raw)
        sub = f"<small>{esc(cell.sub)}</small>" if cell.sub else ""
        names = " ".join(filter(None, ("number" if column.number else "", "text" if column.text else "", cell.tone)))
        attribute = f' class="{names}"' if names else ""
        tag = 'th scope="row"' if i == 0 else "td"
        out.append(f"<{tag}{attribute}>{inline(cell.text)}{sub}</{tag.split()[0]}>")
    return f"<tr>{''.join(out)}</tr>"


@render.register
def _(block: Comparison) -> str:
    columns = "".join(_sample(s) for s in block.samples)
    gold = f'<p class="gold">Gold answer: <code>{esc(block.gold)}</code></p>' if block.gold else ""
    question = f'<div class="question">{_folded(block.question, "question")}{gold}</div>'
    return (
        f'<article class="comparison"><h3>{inline(block.label)}</h3>{question}'
        f'<div class="samples">{columns}</div></article>'
    )


def _sample(sample: Sample) -> str:
    detail = f'<p class="detail">{esc(sample.detail)}</p>' if sample.detail else ""
    return (
        f'<div class="sample"><p class="sample-head"><b>{esc(sample.title)}</b>'
        f'<span class="verdict {sample.tone}">{esc(sample.verdict)}</span></p>'
        f"{_folded(sample.text, 'completion')}{detail}</div>"
    )


def _folded(text: str, name: str) -> str:
    """Verbatim text; a long one as its beginning, with the whole behind a line."""
    if len(text) <= LONG_CHARACTERS and text.count("\n") < LONG_LINES:
        return f'<pre class="{name}">{esc(text)}</pre>'
    start = "\n".join(text[:EXCERPT].split("\n")[:LONG_LINES])
    start = start[: max(start.rfind(" "), start.rfind("\n"))] if " " in start or "\n" in start else start
    return (
        f'<pre class="{name}">{esc(start)} …</pre>'
        f'<details><summary>All {len(text):,} characters</summary><pre class="{name}">{esc(text)}</pre></details>'
    )


def _tone(tone: str) -> str:
    return f' class="{tone}"' if tone else ""


def _column(column: Column) -> str:
    width = f' style="min-width:min({column.text}ch,44vw)"' if column.text else ""
    return (' class="number"' if column.number else "") + width
