"""The way of completions into a curated set: asked for, graded, correct, well-formed, distinct, kept.

Counts are those of the curate stage's manifest; a completion leaves at the first test that it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openr1.records import MASKED, STATUSES
from openr1.report.charts import stack_chart
from openr1.report.document import Block, Cell, Column, Heading, Table
from openr1.report.load import Run, Stage
from openr1.report.numbers import DASH, integer, percent, plural

WRONG = {*STATUSES} - MASKED - {"correct"}
OF_PROMPTS = "rl: "  # reasons for which prompts, not completions, were left out
# what is left after each test, and the reasons to leave at it (openr1.curate.select, in its order)
TESTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("answered", lambda r: r == "request failed"),
    ("graded", lambda r: r.startswith("not graded")),
    ("correct", lambda r: r in WRONG),
    ("ended and well-formed", lambda r: r.startswith(("cut at", "not of the"))),
    ("distinct", lambda r: r.startswith("same text")),
    ("kept for SFT", lambda r: r.startswith("more than")),
)


def funnel_blocks(run: Run) -> list[Block]:
    """A heading, a chart and a table for every finished curate stage."""
    blocks: list[Block] = []
    for stage in run.stages:
        if stage.kind == "curate" and stage.done and stage.manifest is not None:
            steps = funnel_of(stage)
            chart = stack_chart(
                "Completions left after each test", {name: {"left": n} for name, n, _ in steps}, ["left"], ""
            )
            blocks.append(Heading(f"How {stage.name} was made", _made_from(run, stage)))
            blocks += [b for b in (chart, _table(stage, steps)) if b is not None]
    return blocks


def funnel_of(stage: Stage) -> list[tuple[str, int, dict[str, int]]]:
    """(step, completions left after it, reason -> how many left at it); tests at which none leaves are left out."""
    counts = stage.manifest.counts if stage.manifest else {}
    dropped = counts.get("dropped")
    reasons = {str(r): int(n) for r, n in (dropped if isinstance(dropped, dict) else {}).items() if n}
    reasons = {r: n for r, n in reasons.items() if not r.startswith(OF_PROMPTS)}
    left = int(counts.get("in") or 0)
    steps: list[tuple[str, int, dict[str, int]]] = [("asked for", left, {})]
    for name, leaves in TESTS:
        gone = {r: n for r, n in reasons.items() if leaves(r)}
        left -= sum(gone.values())
        if gone or name == "kept for SFT":
            steps.append((name, left, gone))
    other = {r: n for r, n in reasons.items() if not any(leaves(r) for _, leaves in TESTS)}
    if other:
        name, _, gone = steps[-1]
        steps[-1] = (name, left - sum(other.values()), gone | other)
    return steps


def _made_from(run: Run, stage: Stage) -> str:
    """Where the completions come from: the model, the prompts, how many each."""
    completions = run.stage(str(stage.inputs.get("completions", "")).split("/")[0])
    model = run.maker(completions) if completions is not None else None
    counts = stage.manifest.counts if stage.manifest else {}
    prompts, total = counts.get("prompts"), counts.get("in")
    words = [f"answers of {model.name}" if model else ""]
    if isinstance(prompts, int) and prompts and isinstance(total, int):
        each = total / prompts
        words.append(f"{plural(prompts, 'prompt')}, {each:.0f} each" if each == round(each) else "")
    rate = stage.results.get("mean_pass_rate")
    words.append(f"mean pass rate {percent(rate)}" if rate is not None else "")
    return " · ".join(w for w in words if w)


def _table(stage: Stage, steps: list[tuple[str, int, dict[str, int]]]) -> Table:
    total = max(steps[0][1], 1)
    rows: list[list[Cell | str]] = []
    for name, left, gone in steps:
        why = ", ".join(f"{_plain(r)}: {n:,}" for r, n in sorted(gone.items(), key=lambda item: -item[1]))
        share = percent(left / total)
        rows.append([Cell(name), integer(left), share, integer(sum(gone.values())) if gone else DASH, why or DASH])
    columns = [Column("Completions"), Column("Left", True), Column("Of all", True), Column("Gone", True)]
    return Table([*columns, Column("Why", text=30)], rows, "", _prompts(stage))


def _prompts(stage: Stage) -> str:
    """What went to the RL set, in prompts."""
    counts: dict[str, Any] = stage.manifest.counts if stage.manifest else {}
    rl, prompts = counts.get("rl"), counts.get("prompts")
    if not isinstance(rl, int) or not isinstance(prompts, int):
        return ""
    dropped = counts.get("dropped")
    reasons = {r: n for r, n in (dropped if isinstance(dropped, dict) else {}).items() if r.startswith(OF_PROMPTS)}
    why = ", ".join(f"{_plain(r.removeprefix(OF_PROMPTS))}: {n:,}" for r, n in reasons.items())
    return f"Of {plural(prompts, 'prompt')}, {rl:,} went to the RL set" + (f" ({why} left out)." if why else ".")


def _plain(reason: str) -> str:
    return reason.replace("_", " ")
