"""How a curated set was made: what each step left, why rows went, pass rates, lengths, contamination, examples.

Numbers are those of the curate stage's manifest; examples come from its `dropped` output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.report.charts import stack_chart
from openr1.report.document import Block, Cell, Column, Comparison, Fold, Heading, Panels, Sample, Table
from openr1.report.load import Run, Stage
from openr1.report.numbers import DASH, integer, percent, plural

PER_REASON = 2  # examples shown of each reason
MOST_REASONS = 12
QUANTILES = {"p5": "5%", "p25": "25%", "p50": "median", "p75": "75%", "p95": "95%", "max": "longest", "mean": "mean"}
EXAMPLE_COLUMNS = ["step", "reason", "prompt_id", "sample_index", "question", "answer", "completion", "detail"]


def funnel_blocks(run: Run) -> list[Block]:
    """A heading and what there is to show for every finished curate stage."""
    blocks: list[Block] = []
    for stage in run.stages:
        if stage.kind == "curate" and stage.done and stage.manifest is not None:
            blocks.append(Heading(f"How {stage.name} was made", _made_from(run, stage)))
            blocks += [b for b in _parts(stage) if b is not None]
    return blocks


def _parts(stage: Stage) -> Iterator[Block | None]:
    charts = [_chart("completion", stage), _pass_rates(stage)]
    yield Panels([c for c in charts if c is not None]) if any(charts) else None
    yield steps_table("completion", stage)
    yield steps_table("prompt", stage)
    yield lengths_table(stage)
    yield contamination_table(stage)
    yield _examples(stage)


def funnel_of(stage: Stage, unit: str) -> list[tuple[str, int, dict[str, int]]]:
    """(step, rows left after it, reason -> how many left at it) for completions or prompts; the first is what came in.

    Steps at which nothing left are kept: that a step found nothing is worth knowing.
    """
    lines = [line for line in stage.results.get("funnel") or [] if line.get("unit") == unit]
    if not lines:
        return []
    came = int(lines[0]["in"])
    return [("in", came, {}), *((str(s["step"]), int(s["out"]), dict(s.get("dropped") or {})) for s in lines)]


def _chart(unit: str, stage: Stage) -> Any:
    steps = funnel_of(stage, unit)
    bars = {name: {"left": left} for name, left, gone in steps if gone or name == "in"}
    return stack_chart(f"{unit.capitalize()}s left after each step", bars, ["left"], "")


def _pass_rates(stage: Stage) -> Any:
    counts = stage.results.get("pass_rates") or {}
    bars = {str(name): {"prompts": float(n)} for name, n in counts.items()}
    return stack_chart("Prompts by pass rate", bars, ["prompts"], "prompts")


def _made_from(run: Run, stage: Stage) -> str:
    """Where the completions come from: the model, the prompts, how many each."""
    completions = run.stage(str(stage.inputs.get("completions", "")).split("/")[0])
    model = run.maker(completions) if completions is not None else None
    counts = stage.manifest.counts if stage.manifest else {}
    prompts, total = counts.get("prompts"), counts.get("in")
    words = [f"answers of {model.name}" if model else ""]
    if isinstance(prompts, int) and prompts and isinstance(total, int):
        each = total / prompts
        words.append(plural(prompts, "prompt") + (f", {each:.0f} each" if each and each == round(each) else ""))
    rate = stage.results.get("mean_pass_rate")
    words.append(f"mean pass rate {percent(rate)}" if rate is not None else "")
    return " · ".join(w for w in words if w)


def pass_rate_table(stage: Stage) -> Table | None:
    """How many prompts have which pass rate, with a bar of characters, for where no chart can be."""
    counts = {str(k): int(n) for k, n in (stage.results.get("pass_rates") or {}).items()}
    total = sum(counts.values())
    if not total:
        return None
    widest = max(counts.values())
    rows: list[list[Cell | str]] = [
        [Cell(name), integer(n), percent(n / total), "█" * round(20 * n / widest)] for name, n in counts.items()
    ]
    return Table([Column("Pass rate"), Column("Prompts", True), Column("Of all", True), Column("")], rows)


def steps_table(unit: str, stage: Stage) -> Table | None:
    """What each step left of the completions or prompts, and why the others went."""
    steps = funnel_of(stage, unit)
    if len(steps) < 2:
        return None
    total = max(steps[0][1], 1)
    rows: list[list[Cell | str]] = []
    for name, left, gone in steps:
        why = ", ".join(f"{_plain(r)}: {n:,}" for r, n in sorted(gone.items(), key=lambda item: -item[1]))
        share = percent(left / total)
        rows.append([Cell(name), integer(left), share, integer(sum(gone.values())) if gone else DASH, why or DASH])
    columns = [Column(f"{unit.capitalize()}s", text=12), Column("Left", True), Column("Of all", True)]
    note = "What is left of the prompts is the RL set." if unit == "prompt" else "What is left is the SFT set."
    return Table([*columns, Column("Gone", True), Column("Why", text=30)], rows, "", note)


def lengths_table(stage: Stage) -> Table | None:
    """Quantiles of the completions' lengths in tokens."""
    found: dict[str, dict[str, Any]] = stage.results.get("completion_tokens") or {}
    if not found:
        return None
    rows: list[list[Cell | str]] = [
        [Cell(name), *(integer(round(q[k])) if k in q else DASH for k in ("n", *QUANTILES))]
        for name, q in found.items()
    ]
    columns = [Column("Completions"), Column("n", True), *(Column(t, True) for t in QUANTILES.values())]
    return Table(columns, rows, "Length of a completion in tokens")


def contamination_of(stage: Stage) -> dict[str, dict[str, Any]]:
    """Benchmark -> what the decontamination found: status, problems, hits, why, pairs."""
    steps = stage.results.get("steps") if stage.kind == "curate" else None  # of a training stage it is a number
    for label, told in (steps or {}).items():
        if str(label).startswith("decontaminate"):
            return dict(told.get("benchmarks") or {})
    return {}


def contamination_table(stage: Stage) -> Table | Fold | None:
    """Every benchmark with what overlaps it, and those that were not checked with the reason."""
    found = contamination_of(stage)
    if not found:
        return None
    rows: list[list[Cell | str]] = []
    for name, of in found.items():
        checked = of.get("status") == "checked"
        hits = int(of.get("hits") or 0)
        why = "checked" if checked else f"not checked: {of.get('why') or 'its text is not to hand'}"
        tone: Any = "bad" if hits else "" if checked else "quiet"
        problems, dropped = (integer(of.get("problems")), integer(hits)) if checked else (DASH, DASH)
        rows.append([Cell(name, tone=tone), problems, dropped, why])
    columns = [Column("Benchmark"), Column("Problems", True), Column("Prompts dropped", True), Column("", text=30)]
    table = Table(columns, rows, "Contamination")
    pairs = [(name, p) for name, of in found.items() for p in of.get("pairs") or []]
    if not pairs:
        return table
    lines: list[list[Cell | str]] = [
        [
            Cell(name),
            str(p.get("row", "")),
            str(p.get("problem", "")),
            str(p.get("how", "")),
            percent(p.get("coverage")),
        ]
        for name, p in pairs
    ]
    titles = [Column("Benchmark"), Column("Prompt", text=30), Column("Problem", text=30), Column("How")]
    both = Table([*titles, Column("Coverage", True)], lines)
    return Fold(f"Contamination: {plural(len(pairs), 'pair')} and what was checked", [table, both], opened=True)


# ------------------------------------------------------------------------------------------------- what was dropped
def examples_of(stage: Stage) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(step, reason) -> its first dropped rows, in file order; only those rows are read as a whole."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted((stage.folder / "dropped").glob("*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                if set(EXAMPLE_COLUMNS) <= set(file.schema_arrow.names):
                    _first_rows(file, found)
        except (OSError, pa.ArrowInvalid):
            continue
    return found


def _first_rows(file: pq.ParquetFile, found: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    for group in range(file.num_row_groups):
        names = file.read_row_group(group, columns=["step", "reason"])
        wanted: list[int] = []
        taken: dict[tuple[str, str], int] = {}
        steps, reasons = names["step"].to_pylist(), names["reason"].to_pylist()
        for i, key in enumerate(zip(steps, reasons, strict=True)):
            if len(found.get(key, ())) + taken.get(key, 0) < PER_REASON:
                taken[key] = taken.get(key, 0) + 1
                wanted.append(i)
        if wanted:
            for row in file.read_row_group(group, columns=EXAMPLE_COLUMNS).take(wanted).to_pylist():
                found.setdefault((row["step"], row["reason"]), []).append(row)


def _examples(stage: Stage) -> Fold | None:
    found = examples_of(stage)
    dropped = {str(r): int(n) for r, n in ((stage.manifest and stage.manifest.counts.get("dropped")) or {}).items()}
    reasons = sorted(found, key=lambda key: -max(dropped.get(key[1], 0), dropped.get(f"rl: {key[1]}", 0)))
    shown = [_comparison(key, row) for key in reasons[:MOST_REASONS] for row in found[key]]
    if not shown:
        return None
    left = len(reasons) - MOST_REASONS
    rest = f"; {plural(left, 'rarer reason')} left out" if left > 0 else ""
    return Fold(f"Examples of what was dropped, up to {PER_REASON} a reason{rest}", shown)


def _comparison(key: tuple[str, str], row: dict[str, Any]) -> Comparison:
    step, reason = key
    samples: Sequence[Sample] = ()
    if row["completion"] is not None:
        samples = [
            Sample(f"sample {row['sample_index']}", str(row["completion"]), "dropped", "bad", row["detail"] or "")
        ]
    elif row["detail"]:
        samples = [Sample("the whole prompt", str(row["detail"]), "dropped", "bad")]
    label = f"`{step}`: {_plain(reason)} · prompt `{row['prompt_id']}`"
    return Comparison(label, str(row["question"] or ""), str(row["answer"] or ""), samples)


def _plain(reason: str) -> str:
    return reason.replace("_", " ")
