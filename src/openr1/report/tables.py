"""The report's tables, each from the report's data."""

from __future__ import annotations

from typing import Any

from openr1.report.document import Cell, Column, Table
from openr1.report.load import Run, Stage
from openr1.report.numbers import (
    DASH,
    compact,
    decimal,
    duration,
    integer,
    interval,
    measure,
    percent,
    scientific,
)

STATUS_TONE = {"done": "good", "failed": "bad", "unreadable": "bad", "unfinished": "bad"}


def models_table(models: dict[str, dict[str, Any]]) -> Table:
    """Accuracy and how it was come by, a row a model."""
    titles = ("Accuracy, greedy", "Accuracy, sampled", "n", "k", "Format", "Tokens a reply", "Truncated", "No answer")
    columns = [Column("Model"), *(Column(t, number=True) for t in titles)]
    return Table(columns, [_model_row(n, e) for n, e in models.items()], "What each model scores", _rests_on(models))


def _model_row(name: str, entry: dict[str, Any]) -> list[Cell | str]:
    greedy, sampled = entry.get("greedy") or {}, entry.get("sampled") or {}
    return [
        Cell(name),
        Cell(percent(greedy.get("accuracy")), interval(greedy.get("low"), greedy.get("high"))),
        Cell(percent(sampled.get("accuracy")), interval(sampled.get("low"), sampled.get("high"))),
        integer(greedy.get("n") or sampled.get("n")),
        integer(sampled.get("k")),
        percent(entry.get("format")),
        decimal(entry.get("response_tokens")),
        percent(entry.get("truncated")),
        percent(entry.get("no_answer")),
    ]


def _rests_on(models: dict[str, dict[str, Any]]) -> str:
    """Law 7: what every number of the table of models rests on."""
    hashes = sorted({str(e["prompt_hash"])[:12] for e in models.values() if e.get("prompt_hash")})
    graders = sorted({str(e["verifier"]) for e in models.values() if e.get("verifier")})
    parts = [
        "n: questions. k: samples a question at temperature. Under each accuracy its 95% interval over questions "
        "(percent). Format, tokens, truncated and no answer are of the greedy replies.",
        f"Questions: prompt hash {', '.join(f'`{h}`' for h in hashes)}." if hashes else "",
        f"Graded by {', '.join(f'`{g}`' for g in graders)}." if graders else "",
    ]
    return " ".join(p for p in parts if p)


def pass_table(models: dict[str, dict[str, Any]]) -> Table | None:
    """pass@k and cons@k, or None where no model has them."""
    ks = sorted({int(k) for e in models.values() for k in (e.get("pass_at") or {})})
    if not ks:
        return None
    rows: list[list[Cell | str]] = [
        [
            Cell(name),
            *(percent((e.get("pass_at") or {}).get(str(k))) for k in ks),
            percent(e.get("cons")),
            integer((e.get("sampled") or {}).get("n")),
        ]
        for name, e in models.items()
    ]
    columns = [Column("Model"), *(Column(f"pass@{k}", True) for k in ks), Column("cons@k", True), Column("n", True)]
    note = "pass@k: unbiased, from the sampled replies. cons@k: the most frequent answer, ties in expectation."
    return Table(columns, rows, "Several tries a question", note)


def cost_table(models: dict[str, dict[str, Any]]) -> Table:
    """What each model cost to make: its own stage, and with everything it rests on."""
    titles = ("Tokens", "Time", "FLOPs", "Tokens, total", "Time, total", "FLOPs, total")
    columns = [Column("Model"), Column("Made by"), Column("Parameters", True), *(Column(t, True) for t in titles)]
    rows = [
        [
            Cell(name),
            e.get("made_by") or "outside this run",
            compact(e.get("parameters")),
            *(
                cell
                for prefix in ("", "total_")
                for cell in (
                    compact(e.get(f"{prefix}tokens")),
                    duration(e.get(f"{prefix}seconds")),
                    scientific(e.get(f"{prefix}flops")),
                )
            ),
        ]
        for name, e in models.items()
    ]
    note = (
        "Tokens: generated and trained on. FLOPs: 6·parameters·token for training and 2·parameters·token for "
        "generation. Time: wall-clock of all attempts. The last three add every stage that the model rests on; "
        "measuring the models is in none of them."
    )
    return Table(columns, rows, "What each model cost", note)


def stages_table(run: Run, entries: list[dict[str, Any]]) -> Table:
    """Every stage of the recipe, and how it ended."""
    columns = [Column("Stage"), Column("Kind"), Column("Status"), Column("Reads")]
    columns += [Column(t, True) for t in ("Attempts", "Time", "Tokens generated", "Tokens trained", "Peak memory")]
    rows: list[list[Cell | str]] = []
    for entry in entries:
        tokens = entry.get("tokens") or {}
        memory = entry.get("peak_memory_mb")
        status = str(entry["status"])
        rows.append(
            [
                Cell(entry["stage"]),
                entry["kind"],
                Cell(status, tone=STATUS_TONE.get(status, "quiet")),  # type: ignore[arg-type]
                ", ".join(entry["inputs"].values()) or DASH,
                integer(entry.get("attempts")),
                duration(entry.get("total_seconds")),
                compact(tokens.get("generated")),
                compact(tokens.get("trained")),
                f"{integer(memory)} MB" if memory else DASH,
            ]
        )
    note = "Time: wall-clock of all attempts of a stage. Tokens and memory: as its manifest holds them."
    return Table(columns, rows, f"The stages of recipe {run.recipe}", note)


def funnel_table(stages: list[Stage]) -> Table | None:
    """Rows in and out of every stage that counts them, with the reasons for what was left out."""
    rows = [row for stage in stages for row in _funnel_rows(stage)]
    if not rows:
        return None
    columns = [Column("Stage"), Column("Rows in", True), Column("Rows out", True), Column("Kept", True)]
    note = "From each stage's manifest. A row can leave for one reason only; outputs are the Parquet folders it wrote."
    return Table([*columns, Column("Left out, and why"), Column("Outputs")], rows, "Data, stage by stage", note)


def _funnel_rows(stage: Stage) -> list[list[Cell | str]]:
    if stage.manifest is None:
        return []
    counts = stage.manifest.counts
    outputs = [
        f"{name}: {integer(out['rows'])}"
        for name, out in stage.manifest.outputs.items()
        if isinstance(out, dict) and out.get("rows") is not None
    ]
    if not counts and not outputs:
        return []
    came, left = _count(counts.get("in")), _count(counts.get("out"))
    kept = percent(left / came) if came and left is not None and left <= came else DASH
    reasons = sorted(reasons_of(counts).items(), key=lambda item: -item[1])
    why = ", ".join(f"{reason}: {n:,}" for reason, n in reasons) or DASH
    return [[Cell(stage.name), integer(came), integer(left), kept, why, ", ".join(outputs) or DASH]]


def reasons_of(counts: dict[str, Any]) -> dict[str, int]:
    """The reasons for which rows were left out, from a manifest's counts."""
    dropped = counts.get("dropped")
    if isinstance(dropped, int):
        return {"dropped": dropped} if dropped else {}
    return {str(reason).replace("_", " "): int(n) for reason, n in (dropped or {}).items() if n}


def _count(value: Any) -> int | None:
    """A count, or the sum of several by name."""
    if isinstance(value, dict):
        return sum(v for v in value.values() if isinstance(v, int))
    return value if isinstance(value, int) else None


def metrics_table(stage: Stage) -> Table:
    """Every metric of a training stage at its start, middle and end."""
    names = [n for n in dict.fromkeys(k for row in stage.metrics for k in row) if n not in ("step", "time")]
    columns = [Column("Metric"), *(Column(t, True) for t in ("First", "Middle", "Last", "Lowest", "Highest", "Steps"))]
    rows: list[list[Cell | str]] = []
    for name in names:
        values = [v for row in stage.metrics if isinstance(v := row.get(name), (int, float))]
        if values:
            picked = (values[0], values[len(values) // 2], values[-1], min(values), max(values))
            rows.append([Cell(name), *(measure(v) for v in picked), integer(len(values))])
    return Table(columns, rows, f"Metrics of {stage.name}", "Single steps, not averages, from metrics.jsonl.")
