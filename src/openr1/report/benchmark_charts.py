"""Charts of one benchmark: accuracy by token budget, lengths by outcome, and a square a question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from openr1.records import MASKED
from openr1.report.charts import INK, QUIET, SERIES, drawing, escaped, mark, svg_of
from openr1.report.document import Figure
from openr1.report.numbers import compact, percent

Row = Mapping[str, Any]
OUTCOMES = {"correct": SERIES[2], "wrong": SERIES[1], "cut or no answer": SERIES[3]}
PER_LINE, SQUARE = 40, 14
MARGINS = {"left": 46, "right": 10, "bottom": 33, "top": 8}


def budget_chart(name: str, curve: Sequence[Mapping[str, Any]], rests_on: str) -> Figure | None:
    """Accuracy against the token budget on a logarithmic axis, with its 95% band."""
    if len(curve) < 2:
        return None
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    budgets = [p["budget"] for p in curve]
    with drawing(320, 200, MARGINS) as (canvas, axes):
        axes.fill_between(
            budgets, [p["low"] for p in curve], [p["high"] for p in curve], color=SERIES[0], alpha=0.18, linewidth=0
        )
        axes.plot(budgets, [p["accuracy"] for p in curve], color=SERIES[0], marker="o", markersize=3.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(_few(budgets))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: compact(float(v))))
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: mark(v)))
        axes.set_xlabel("new tokens at most", fontsize=10, labelpad=2)
        alt = "; ".join(f"{p['budget']:,} tokens {percent(p['accuracy'])}" for p in curve)
        return Figure(f"{name} ({rests_on.partition(' · ')[0]})", svg_of(canvas, name, alt), alt)


def _few(budgets: Sequence[int], most: int = 6) -> list[int]:
    step = -(-len(budgets) // most)
    return list(budgets[::-1][::step][::-1])


def length_chart(name: str, rows: Sequence[Row], rests_on: str) -> Figure | None:
    """Replies by their length in tokens, bins of doubling width, stacked by outcome."""
    lengths = [(max(1, int(r["completion_tokens"] or 0)), _outcome(r)) for r in rows if r["status"] not in MASKED]
    if not lengths:
        return None
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    low = math.floor(2 * math.log2(min(n for n, _ in lengths))) / 2
    high = max(math.log2(max(n for n, _ in lengths)) + 1e-9, low + 0.5)
    edges = [2 ** (low + i / 2) for i in range(math.ceil((high - low) * 2) + 1)]
    margins = MARGINS | {"top": 24}
    with drawing(320, 215, margins) as (canvas, axes):
        data = [[n for n, o in lengths if o == outcome] for outcome in OUTCOMES]
        axes.hist(data, bins=edges, stacked=True, color=list(OUTCOMES.values()), label=list(OUTCOMES), rwidth=0.92)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: compact(float(v))))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("tokens of a reply", fontsize=10, labelpad=2)
        canvas.legend(loc="upper left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1, borderpad=0, borderaxespad=0.2,
                      labelspacing=0.3, columnspacing=1)  # fmt: skip
        counts = ", ".join(f"{len(d)} {o}" for d, o in zip(data, OUTCOMES, strict=True))
        shortest, longest = min(n for n, _ in lengths), max(n for n, _ in lengths)
        alt = f"{counts}; from {shortest:,} to {longest:,} tokens"
        return Figure(f"{name} ({rests_on.partition(' · ')[0]})", svg_of(canvas, name + " lengths", alt), alt)


def _outcome(row: Row) -> str:
    status = row["status"]
    return "cut or no answer" if status in ("truncated", "no_answer") else status if status == "correct" else "wrong"


def difference_chart(comparisons: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Paired differences with their 95% intervals around no difference, in points."""
    from matplotlib.ticker import FuncFormatter

    if not comparisons:
        return None
    names = [f"{c['benchmark']}, {c['b']}" if len({c["b"] for c in comparisons}) > 1 else c["benchmark"]
             for c in comparisons]  # fmt: skip
    with drawing(420, 62 + 28 * len(names)) as (canvas, axes):
        axes.axvline(0, color=QUIET, linewidth=1)
        for y, c in enumerate(comparisons):
            axes.plot([100 * c["low"], 100 * c["high"]], [y, y], color=SERIES[0], linewidth=1.8)
            axes.plot([100 * c["difference"]], [y], color=SERIES[0], marker="o", markersize=5)
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+g}"))
        axes.set_xlabel("points, other minus first", fontsize=10, labelpad=2)
        alt = "; ".join(f"{n} {100 * c['difference']:+.1f} points" for n, c in zip(names, comparisons, strict=True))
        title = "Difference with its 95% interval"
        return Figure(title, svg_of(canvas, title, alt), alt, width=620)


def heat_map(name: str, rows: Sequence[Row]) -> Figure | None:
    """One square a question, filled by the share of its samples that are correct; its name and share on hovering."""
    marks: dict[str, list[bool]] = {}
    names: dict[str, str] = {}
    for r in rows:
        names.setdefault(r["prompt_id"], str(r.get("question_key") or r["prompt_id"][:8]))
        marks.setdefault(r["prompt_id"], [])
        if r["status"] not in MASKED:
            marks[r["prompt_id"]].append(r["status"] == "correct")
    if not marks:
        return None
    squares = "".join(_square(i, names[q], m) for i, (q, m) in enumerate(marks.items()))
    lines = -(-len(marks) // PER_LINE)
    width, height = SQUARE * min(PER_LINE, len(marks)), SQUARE * lines
    means = [sum(m) / len(m) for m in marks.values() if m]
    always, never = sum(m == 1 for m in means), sum(m == 0 for m in means)
    alt = f"{len(means)} questions: {always} always right, {never} never, {len(means) - always - never} now and then"
    style = f"max-width:{width}px"
    head = f'<svg viewBox="0 0 {width} {height}" role="img" style="{style}">'
    svg = f"{head}<title>{escaped(name)}: {alt}</title>{squares}</svg>"
    return Figure(f"{name}: {alt}", svg, alt, width=max(460, width))


def _square(place: int, name: str, marks: Sequence[bool]) -> str:
    x, y = SQUARE * (place % PER_LINE), SQUARE * (place // PER_LINE)
    share = sum(marks) / len(marks) if marks else None
    text = "not graded" if share is None else f"{sum(marks)} of {len(marks)} correct"
    fill = f"fill:var(--series-3);fill-opacity:{share or 0:.2f};stroke:var(--line);stroke-width:.8"
    return (
        f'<rect x="{x + 1}" y="{y + 1}" width="{SQUARE - 2}" height="{SQUARE - 2}" rx="2" style="{fill}">'
        f"<title>{escaped(name)}: {text}</title></rect>"
    )
