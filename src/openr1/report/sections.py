"""The sections of the report, one short function each: from the run and its summary to blocks.

`SECTIONS` is the order on the page. A function that has nothing to show returns None.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from openr1.report import charts, tables
from openr1.report.benchmarks import benchmark_sections
from openr1.report.claims import claims_table
from openr1.report.curves import panels_of, together
from openr1.report.document import (
    Block,
    Bullets,
    Cell,
    Column,
    Comparison,
    Fold,
    Heading,
    Pre,
    Sample,
    Section,
    Table,
    Text,
)
from openr1.report.funnel import funnel_blocks
from openr1.report.load import TRAINING_KINDS, Run, Stage
from openr1.report.numbers import duration, finite, integer, percent, plural
from openr1.report.probes import probes_section
from openr1.report.samples import Pair, pairs_of
from openr1.report.summary import PHASES, phases_of

Summary = dict[str, Any]
MOST_OPEN = 4  # with more models or training stages than this, what is only about one of them is folded


def models(run: Run, summary: Summary) -> Section | None:
    """The accuracy of every model with its interval, what it rests on, and what the model cost."""
    entries = summary["models"]
    if not entries:
        text = "No evaluate stage of this run has finished, so no model has a score yet."
        wanted = any(_kind(s) == "evaluate" for s in run.stages)
        return Section("models", "Models", [Text(text)]) if wanted else None
    groups = {
        mode: [
            charts.Estimate(name, *(finite((entry.get(mode) or {}).get(k)) for k in ("accuracy", "low", "high")))
            for name, entry in entries.items()
        ]
        for mode in ("greedy", "sampled")
    }
    title = "Accuracy with 95% intervals"
    chart = charts.interval_chart(title, {k: v for k, v in groups.items() if any(e.value is not None for e in v)})
    several: Table | Fold | None = tables.pass_table(entries)
    if isinstance(several, Table) and len(entries) > MOST_OPEN:
        several = Fold(several.caption, [several])
    found: list[Block | None] = [tables.models_table(entries), chart, several]
    return Section("models", "Models", [b for b in found if b is not None])


def claims(run: Run, summary: Summary) -> Section | None:
    """What the paper claims, and what came out here."""
    entries = summary["claims"]
    return Section("claims", "The paper's claims", [claims_table(entries)]) if entries else None


def cost(run: Run, summary: Summary) -> Section | None:
    """What the models cost, and what the paper's cost."""
    entries = summary["models"]
    if not entries:
        return None
    blocks: list[Block] = [tables.cost_table(entries), tables.total_cost_table(entries)]
    if summary["reference_costs"]:
        blocks.append(tables.reference_table(summary["reference_costs"]))
    return Section("cost", "Cost", blocks)


def curves(run: Run, summary: Summary) -> Section | None:
    """The curves of every training stage, by optimizer step; with many stages, each one's own are folded."""
    trained = [s for s in run.stages if s.metrics and _kind(s) in TRAINING_KINDS]
    own = [(s, panels) for s in trained if (panels := panels_of(s)) is not None]
    if not own:
        return None
    blocks: list[Block] = []
    grpo = [s for s in trained if _kind(s) == "grpo"]
    shared = together(grpo) if len(grpo) > 1 else None
    if shared:
        blocks += [Heading("GRPO stages together"), shared]
    for stage, panels in own:
        note = _how_it_went(stage)
        if len(own) <= MOST_OPEN:
            blocks += [Heading(stage.name, note), panels]
        else:
            blocks.append(Fold(f"{stage.name}: {note}", [panels]))
    note = "Every optimizer step as logged. The strong line of a long curve is its moving average."
    return Section("curves", "Training curves", [Text(note, "quiet"), *blocks])


def _kind(stage: Stage) -> str:
    return stage.kind or (stage.manifest.kind if stage.manifest else "")


def _how_it_went(stage: Stage) -> str:
    kind, ended = _kind(stage), stage.results.get("stopped")
    words = ["" if kind == stage.name else kind, plural(stage.metrics[-1]["step"], "step")]
    words += [f"ended: {ended}" if ended else "", "" if stage.done else stage.status]
    return " · ".join(w for w in words if w)


def data(run: Run, summary: Summary) -> Section | None:
    """How many rows went in and out of each stage, and why rows left."""
    table = tables.funnel_table(run.stages)
    blocks = [*funnel_blocks(run), *([table] if table else [])]
    return Section("data", "Data", blocks) if blocks else None


def completions(run: Run, summary: Summary) -> Section | None:
    """Completions before and after on the same prompts."""
    pairs = pairs_of(run)
    if not pairs:
        return None
    columns = [Column("Before"), Column("After"), Column("Prompts", True)]
    columns += [Column(t, True) for t in ("Newly right", "Newly wrong", "Still right", "Still wrong")]
    rows: list[list[Cell | str]] = [
        [Cell(p.before_name), p.after_name, integer(len(p.shared)), *_counts(p)] for p in pairs
    ]
    note = "Greedy replies to the prompts that both models answered; a reply that could not be graded is left out."
    table = Table(columns, rows, "What became of each prompt", note)
    lead = Text(
        "Shown below: the two prompts with the smallest ids, whatever came of them, then up to two of each kind of "
        "change, again by smallest id. All of them lie in each evaluate stage's `samples/`.",
        "quiet",
    )
    shown = [
        Fold(f"{p.before_name} → {p.after_name}", [_comparison(p, why, i) for why, i in p.chosen()], opened=n == 0)
        for n, p in enumerate(pairs)
    ]
    return Section("completions", "Completions before and after", [table, lead, *shown])


def _counts(pair: Pair) -> list[str]:
    return [integer(n) for n in pair.transitions().values()]


def _comparison(pair: Pair, why: str, prompt_id: str) -> Comparison:
    row = pair.after[prompt_id]
    samples = [
        _sample(name, rows[prompt_id])
        for name, rows in ((pair.before_name, pair.before), (pair.after_name, pair.after))
    ]
    return Comparison(f"{why} · prompt `{prompt_id}`", str(row["question"] or ""), str(row["gold"] or ""), samples)


def _sample(name: str, row: dict[str, Any]) -> Sample:
    status = str(row["status"])
    tone = "good" if status == "correct" else "bad"
    extracted = "no answer found" if row["extracted"] is None else f"answer read: {row['extracted']}"
    detail = [extracted, f"{row['completion_tokens']} tokens", f"ended by {row['finish_reason']}"]
    if row["decided_by"]:
        detail.append(f"decided by {row['decided_by']}")
    return Sample(name, str(row["completion"] or ""), status.replace("_", " "), tone, " · ".join(detail))  # type: ignore[arg-type]


def time(run: Run, summary: Summary) -> Section | None:
    """Where the time went, by stage and phase."""
    bars = {s.name: phases_of(s) for s in run.stages if s.manifest is not None}
    bars = {name: phases for name, phases in bars.items() if phases}
    if not bars:
        return None
    known = [*PHASES, *sorted({p for b in bars.values() for p in b} - {*PHASES, "other"}), "other"]
    parts = [p for p in known if any(b.get(p) for b in bars.values())]
    total = sum(sum(b.values()) for b in bars.values())
    rows: list[list[Cell | str]] = []
    for name, b in bars.items():
        own = sum(b.values())
        rows.append([Cell(name), duration(own), percent(own / total, 0), *(duration(b.get(p)) for p in parts)])
    columns = [Column("Stage"), *(Column(t, True) for t in ("Time", "Share", *(p.capitalize() for p in parts)))]
    note = "Wall-clock of all attempts. Other: what no phase accounts for, mostly loading and start-up."
    table = Table(columns, rows, f"{duration(total)} in all", note)
    chart = charts.stack_chart("Seconds by stage and phase", bars, parts, "seconds")
    return Section("time", "Where the time went", [b for b in (chart, table) if b is not None])


def stages(run: Run, summary: Summary) -> Section | None:
    """Every stage and how it ended."""
    return Section("stages", "Stages", [tables.stages_table(run, summary["stages"])])


def provenance(run: Run, summary: Summary) -> Section | None:
    """The command, the commit, the versions, the inputs' hashes."""
    blocks: list[Block] = []
    if summary["command"]:
        blocks += [Text("The command:"), Pre(shlex.join(summary["command"]))]
    git = summary["git"]
    if git:
        dirty = ", with uncommitted changes" if git.get("dirty") else ""
        blocks.append(Text(f"Commit `{git.get('commit')}` on `{git.get('branch')}`{dirty}."))
    facts = [f"seed {run.seed}" if run.seed is not None else "", f"host {summary['host']}" if summary["host"] else ""]
    if any(facts):
        blocks.append(Text(", ".join(f for f in facts if f).capitalize() + "."))
    if summary["versions"]:
        rows: list[list[Cell | str]] = [[Cell(k), v] for k, v in summary["versions"].items()]
        blocks.append(Table([Column("Package"), Column("Version")], rows, "Versions"))
    hashes: list[list[Cell | str]] = [
        [Cell(f"{s.name}/{name}"), str(out.get("kind")), integer(out.get("rows")), f"`{str(out['hash'])[:16]}`"]
        for s in run.stages
        if s.manifest is not None
        for name, out in s.manifest.outputs.items()
        if isinstance(out, dict) and out.get("hash")
    ]
    if hashes:
        columns = [Column("Output"), Column("Kind"), Column("Rows", True), Column("SHA-256, first 16 digits")]
        blocks.append(Fold("Content hashes of all outputs", [Table(columns, hashes)]))
    return Section("provenance", "How to get this again", blocks) if blocks else None


def cautions(run: Run, summary: Summary) -> Section | None:
    """What to know before trusting the numbers."""
    if not summary["warnings"]:
        return None
    return Section("warnings", "Warnings", [Bullets(summary["warnings"], "bad")])


SECTIONS: tuple[Callable[[Run, Summary], Section | None], ...] = (
    cautions, benchmark_sections, models, claims, cost, curves, probes_section, completions, data, time, stages,
    provenance,
)  # fmt: skip


def all_sections(run: Run, summary: Summary) -> list[Section]:
    """Every section that has something to show, in the order of the page."""
    return [s for section in SECTIONS if (s := section(run, summary)) is not None]
