"""A comparison for people: a table for the terminal and a page that stands by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as TerminalTable
from rich.text import Text as TerminalText

from openr1.report import html
from openr1.report.benchmark_charts import difference_chart
from openr1.report.compare import CANNOT_TELL, Evaluated, evaluations
from openr1.report.document import Block, Bullets, Cell, Column, Comparison, Fold, Section, Table, Text, Tone
from openr1.report.load import load_run
from openr1.report.numbers import DASH, cleaned, interval, percent

MOST_QUESTIONS = 10
Found = Mapping[str, Any]
NOTE = (
    "Difference: the later run minus the first one, paired by question, in points, with its 95% interval (Student's t "
    "over questions). p: sign flips of the questions' differences, two-sided; Holm: corrected for all comparisons of "
    "this table. Could have seen: the smallest true difference found with 80% power."
)


def sentence(c: Found) -> str:
    """Which of the two is better, and how sure."""
    how = f"{points(c['difference'])} points ({span(c)}), {p_text(c['p_holm'])} after Holm, n = {c['n']}"
    if c["better"] == CANNOT_TELL:
        seen = f"; {100 * c['detectable']:.1f} points could have been seen" if c["detectable"] else ""
        return f"{c['benchmark']}: cannot tell {c['a']} and {c['b']} apart: {how}{seen}"
    other = c["a"] if c["better"] == c["b"] else c["b"]
    return f"{c['benchmark']}: {c['better']} is better than {other}: {how}"


def points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def span(c: Found) -> str:
    return f"{100 * c['low']:+.1f} to {100 * c['high']:+.1f}".replace("-", "\N{MINUS SIGN}")


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def terminal(found: Found) -> RenderableType:
    """The table and a sentence a comparison, for 80 columns."""
    table = TerminalTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for i, title in enumerate(("benchmark", "first", "other", "difference", "p, Holm", "could see")):
        table.add_column(title, justify="right" if i else "left", overflow="fold")
    for c in found["comparisons"]:
        table.add_row(
            TerminalText(c["benchmark"], style="bold"),
            _accuracy(c, "a"),
            _accuracy(c, "b"),
            TerminalText(points(c["difference"])).append(f"\n{span(c)}", style="dim"),
            f"{c['p_holm']:.4f}",
            f"{100 * c['detectable']:.1f}" if c["detectable"] else DASH,
        )
    lines = [TerminalText(sentence(c)) for c in found["comparisons"]]
    warned = [TerminalText.assemble(("! ", "yellow"), w) for w in warnings(found)]
    return Group(table, TerminalText(), *lines, *warned)


def _accuracy(c: Found, side: str) -> TerminalText:
    text = TerminalText(percent(c[f"accuracy_{side}"]))
    limits = interval(c[f"low_{side}"], c[f"high_{side}"]).replace(" to ", "\N{EN DASH}")
    return text.append(f"\n{limits}", style="dim")


def warnings(found: Found) -> list[str]:
    return [f"{c['benchmark']}, {c['b']}: {what}" for c in found["comparisons"] for what in c["differs"]]


def sections(found: Found, folders: Sequence[Path]) -> list[Section]:
    """The paired comparison as sections of a page."""
    blocks: list[Block] = [Bullets([sentence(c) for c in found["comparisons"]]), _table(found)]
    chart = difference_chart(found["comparisons"])
    blocks += [chart] if chart else []
    out = [Section("comparison", "Comparison", blocks)]
    if warned := warnings(found):
        text = "More than the model differs, so the difference is not the model's alone:"
        out.insert(0, Section("warnings", "Warnings", [Text(text), Bullets(warned, "bad")]))
    if moved := _questions(found, folders):
        out.append(Section("questions", "Where they differ most", moved))
    return out


def page(found: Found, folders: Sequence[Path]) -> str:
    """The comparison as one HTML file."""
    found = cleaned(found)
    first, *others = (r["run"] for r in found["runs"])
    return html.page(f"{first} against {', '.join(others)}", "Paired by question", sections(found, folders))


def _table(found: Found) -> Table:
    columns = [Column("Benchmark"), Column("First", True), Column("Other", True), Column("Difference", True)]
    columns += [Column("p", True), Column("p, Holm", True), Column("Could have seen", True), Column("Better")]
    rows: list[list[Cell | str]] = []
    for c in found["comparisons"]:
        tone: Tone = "quiet" if c["better"] == CANNOT_TELL else "good"
        rows.append(
            [
                Cell(c["benchmark"], f"n = {c['n']}, k = {c['k_a']} and {c['k_b']}"),
                Cell(percent(c["accuracy_a"]), f"{interval(c['low_a'], c['high_a'])}, {c['a']}"),
                Cell(percent(c["accuracy_b"]), f"{interval(c['low_b'], c['high_b'])}, {c['b']}"),
                Cell(points(c["difference"]), span(c)),
                f"{c['p']:.4f}",
                f"{c['p_holm']:.4f}",
                f"{100 * c['detectable']:.1f}" if c["detectable"] else DASH,
                Cell(c["better"], tone=tone),
            ]
        )
    return Table(columns, rows, "Model against model", NOTE)


def _questions(found: Found, folders: Sequence[Path]) -> list[Block]:
    """The questions whose values differ most, with a sample of each side."""
    labels = [r["run"] for r in found["runs"]]
    measured = dict(zip(labels, (evaluations(load_run(f)) for f in folders), strict=True))
    out: list[Block] = []
    for c in found["comparisons"]:
        a, b = measured[c["a"]][c["benchmark"]], measured[c["b"]][c["benchmark"]]
        x, y = a.means(), b.means()
        ranked = sorted((q for q in x.keys() & y.keys() if x[q] != y[q]), key=lambda q: (-abs(y[q] - x[q]), q))
        shown = [_side_by_side(q, (c["a"], a, x[q]), (c["b"], b, y[q])) for q in ranked[:MOST_QUESTIONS]]
        if shown:
            title = f"{c['benchmark']}: {c['higher_b']} questions higher with {c['b']}, {c['higher_a']} with {c['a']}"
            out.append(Fold(title, shown, opened=len(found["comparisons"]) == 1))
    return out


def _side_by_side(question: str, *sides: tuple[str, Evaluated, float]) -> Comparison:
    from openr1.report.browse import sample_of

    samples, first = [], None
    for label, evaluated, mean in sides:
        rows = [r for r in evaluated.rows if r["prompt_id"] == question]
        typical = next((r for r in rows if (r["status"] == "correct") == (mean >= 0.5)), rows[0])
        first = first or typical
        samples.append(sample_of(typical, f"{label}, {percent(mean, 0)}"))
    assert first is not None
    name = str(first.get("question_key") or question)
    return Comparison(name, str(first["question"] or ""), str(first["gold"] or ""), samples)
