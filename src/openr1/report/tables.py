"""The report's tables, each from the report's data."""

from __future__ import annotations

import math
from typing import Any

from openr1.report.document import Cell, Column, Table
from openr1.report.load import TRAINING_KINDS, Run, Stage
from openr1.report.numbers import (
    DASH,
    compact,
    decimal,
    duration,
    finite,
    integer,
    interval,
    measure,
    percent,
    scientific,
)
from openr1.report.summary import price_per_gpu_hour

# what an evaluation may count on its replies beyond the usual, and its column
COUNTED = {"reflection": "Reflects", "language": "Language"}
USERS = TRAINING_KINDS | {"evaluate", "benchmark"}  # kinds of stages that use data and make none
STATUS_TONE = {"done": "good", "failed": "bad", "unreadable": "bad", "unfinished": "bad"}


def models_table(models: dict[str, dict[str, Any]]) -> Table:
    """Accuracy and how it was come by, a row a model."""
    titles = ["Accuracy, greedy", "Accuracy, sampled", "n", "k", "Format", "Tokens a reply", "Truncated", "No answer"]
    counted = [k for k in COUNTED if any(e.get(k) for e in models.values())]
    columns = [Column("Model"), *(Column(t, number=True) for t in (*titles, *(COUNTED[k] for k in counted)))]
    rows = [_model_row(n, e, counted) for n, e in models.items()]
    return Table(columns, rows, "What each model scores", _rests_on(models))


def _model_row(name: str, entry: dict[str, Any], counted: list[str]) -> list[Cell | str]:
    greedy, sampled = entry.get("greedy") or {}, entry.get("sampled") or {}
    return [
        Cell(name),
        Cell(percent(greedy.get("accuracy")), interval(greedy.get("low"), greedy.get("high"))),
        Cell(percent(sampled.get("accuracy")), interval(sampled.get("low"), sampled.get("high"))),
        integer(greedy.get("n") or sampled.get("n")),
        integer(sampled.get("k")),
        percent(entry.get("format")),
        decimal(entry.get("response_tokens")),
        _truncated(entry),
        percent(entry.get("no_answer")),
        *(_counted(key, entry.get(key) or {}) for key in counted),
    ]


def _truncated(entry: dict[str, Any]) -> str:
    """The share of replies cut at the token limit: greedy / sampled where the two differ."""
    modes = [e["truncated"] for m in ("greedy", "sampled") if (e := entry.get(m) or {}).get("truncated") is not None]
    shown = list(dict.fromkeys(percent(share) for share in modes or [entry.get("truncated")]))
    return " / ".join(shown)


def _counted(key: str, found: dict[str, Any]) -> Cell | str:
    """Reflection or language with the number of replies that it rests on."""
    n = finite(found.get("n"))
    if n is None:
        return DASH
    sub = f"of {integer(n)} with words" if key == "language" else ""
    return Cell(percent(found.get("share")), sub)


def _rests_on(models: dict[str, dict[str, Any]]) -> str:
    """Law 7: what every number of the table of models rests on."""
    hashes = sorted({str(e["prompt_hash"])[:12] for e in models.values() if e.get("prompt_hash")})
    graders = sorted({str(e["verifier"]) for e in models.values() if e.get("verifier")})
    parts = [
        "n: questions. k: samples a question at temperature. Under each accuracy its 95% interval over questions "
        "(percent). Format, tokens, truncated and no answer are of the greedy replies; two shares of truncated are "
        "greedy / sampled.",
        f"Questions: prompt hash {', '.join(f'`{h}`' for h in hashes)}." if hashes else "",
        f"Graded by {', '.join(f'`{g}`' for g in graders)}." if graders else "",
        *_words_of(models),
    ]
    return " ".join(p for p in parts if p)


def _words_of(models: dict[str, dict[str, Any]]) -> list[str]:
    """What reflection and language mean in this run."""
    words = {", ".join(e["reflection"]["words"]) for e in models.values() if e.get("reflection")}
    languages = {(e["language"]["language"], e["language"]["by"]) for e in models.values() if e.get("language")}
    return [
        *(f"Reflects: replies that hold one of: {w}." for w in sorted(words)),
        *(
            f"Language: share of `{code}` words in the reasoning, decided by {by}; replies without words there are "
            "left out."
            for code, by in sorted(languages)
        ),
    ]


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
    """What the stage that made each model cost."""
    titles = ("Parameters", "Trained on", "Generated", "Time", "FLOPs, training", "FLOPs, generation")
    columns = [Column("Model"), *(Column(t, True) for t in titles)]
    rows: list[list[Cell | str]] = []
    for name, e in models.items():
        own, maker = e["cost"]["own"], e.get("made_by")
        rows.append(
            [
                Cell(name, "" if maker == name else f"made by {maker}" if maker else "made outside this run"),
                compact(e.get("parameters")),
                compact(own["trained"]),
                compact(own["generated"]),
                duration(own["seconds"]),
                scientific(own["flops_training"]),
                scientific(own["flops_generation"]),
            ]
        )
    note = (
        "The stage that made the model, alone. Trained on and generated: tokens, prompts included in what is trained "
        "on. FLOPs: 6·parameters·token for training, 2·parameters·token for generation and for the prompts read for "
        "it. Time: wall-clock of all attempts. Measuring the models is in none of it."
    )
    return Table(columns, rows, "What each model cost to make", note)


def total_cost_table(models: dict[str, dict[str, Any]]) -> Table:
    """What each model cost with everything it rests on, without and with the training of its teachers."""
    taught = any(e["cost"]["teacher"]["stages"] for e in models.values())
    columns = [Column("Model")]
    if taught:
        columns += [Column(t, True) for t in ("Tokens", "Time", "FLOPs")]
        columns += [Column("Teacher's training"), Column("Teacher's FLOPs", True)]
    columns += [Column(t, True) for t in ("Tokens, total", "Time, total", "FLOPs, total")]
    rows: list[list[Cell | str]] = []
    for name, e in models.items():
        cost = e["cost"]
        row: list[Cell | str] = [Cell(name)]
        if taught:
            names = ", ".join(cost["teacher"]["stages"])
            row += _spent(cost["alone"])
            row += [names or DASH, scientific(cost["teacher"]["flops"]) if names else DASH]
        rows.append([*row, *_spent(cost["total"])])
    note = "Every stage that the model rests on, measuring left out." + (
        " A teacher is a model that was not started from but whose answers were learned from; the first three numbers "
        "leave its training out and hold the generation of its answers, the last three hold both."
        if taught
        else ""
    )
    return Table(columns, rows, "With everything it rests on", note)


def _spent(amounts: dict[str, Any]) -> list[Cell | str]:
    return [compact(amounts["tokens"]), duration(amounts["seconds"]), scientific(amounts["flops"])]


def reference_table(rows: list[dict[str, Any]]) -> Table:
    """The paper's costs beside those of the stages that play the same part here."""
    titles = ("GPU-hours (H800)", "USD", "Share")
    columns = [Column("In the paper", text=34), *(Column(t, True) for t in titles), Column("Here", text=16)]
    columns += [Column(t, True) for t in ("Time here", "FLOPs here", "Share here")]
    body: list[list[Cell | str]] = []
    for row in rows:
        here = row["here"] or {}
        machines = row.get("gpus") and row.get("hours")
        source = row["gpu_hours"]["source"]
        detail = f"{integer(row['gpus']['value'])} GPUs, {integer(row['hours']['value'])} h. " if machines else ""
        body.append(
            [
                Cell(row["name"], detail + source),
                compact(row["gpu_hours"]["value"]),
                integer(row["usd"]["value"]),
                percent(row["share"]["paper"], 0),
                ", ".join(here.get("stages", [])) or DASH,
                duration(here.get("seconds")),
                scientific(here.get("flops")),
                percent(row["share"]["here"], 0),
            ]
        )
    note = (
        "Not the same things: there a model of 671B parameters (37B a token) on H800 GPUs, here a tiny one on the "
        "hardware named below; only the shares invite a comparison. Shares: of R1-Zero, the SFT data and R1 together, "
        "by GPU-hours there and by FLOPs here. USD at the authors' 2 USD a GPU-hour. †: the supplement of the Nature "
        "paper as commonly cited."
    )
    return Table(columns, body, "Beside the paper's costs", note)


def stages_table(run: Run, entries: list[dict[str, Any]]) -> Table:
    """Every stage of the recipe, and how it ended."""
    columns = [Column("Stage"), Column("Kind"), Column("Status"), Column("Reads")]
    columns += [Column(t, True) for t in ("Attempts", "Time", "Tokens generated", "Tokens trained", "Peak memory")]
    gpu_hours = math.fsum(e.get("gpu_hours") or 0 for e in entries)
    columns += [Column("GPU-hours", True)] if gpu_hours else []
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
                *([measure(entry.get("gpu_hours"))] if gpu_hours else []),
            ]
        )
    note = "Time: wall-clock of all attempts of a stage. Tokens and memory: as its manifest holds them."
    if gpu_hours:
        note += f" GPU-hours: the GPUs it asks for × the hours of all attempts, {measure(gpu_hours)} in all"
        price = price_per_gpu_hour(run)
        note += f"; {gpu_hours * price:,.2f} USD at {price:g} USD a GPU-hour." if price else "."
    return Table(columns, rows, f"The stages of recipe {run.recipe}", note)


def funnel_table(stages: list[Stage]) -> Table | None:
    """Rows in and out of every stage that counts them, with the reasons for what was left out."""
    rows = [row for stage in stages for row in _funnel_rows(stage)]
    if not rows:
        return None
    columns = [Column("Stage"), Column("Rows in", True), Column("Rows out", True), Column("Kept", True)]
    note = (
        "From each stage's manifest. A row can leave for one reason only; outputs are the Parquet folders it wrote. "
        "Stages that train or evaluate stand here only if they left rows out."
    )
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
    if not counts and not outputs or stage.kind in USERS and not reasons_of(counts):
        return []
    came, left = _count(counts.get("in")), _count(counts.get("out"))
    kept = percent(left / came) if came and left is not None and left <= came else DASH
    reasons = sorted(reasons_of(counts).items(), key=lambda item: -item[1])
    told = [f"{reason}: {n:,}" for reason, n in reasons]
    told += [f"not asked for, {reason}: {n:,}" for reason, n in (counts.get("not_asked") or {}).items()]
    told += [f"rows of failed requests: {failed:,}"] if (failed := _count(counts.get("failed"))) else []
    why = ", ".join(told) or DASH
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
