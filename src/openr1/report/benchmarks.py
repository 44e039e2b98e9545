"""The part of the report that is about benchmarks: what `openr1 evaluate` measured, as data and as sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openr1.report import benchmark_charts as drawn
from openr1.report import charts
from openr1.report.browse import browsable
from openr1.report.document import Block, Cell, Column, Fold, Heading, Panels, Section, Table, Text, Tone
from openr1.report.load import Run, Stage, load_benchmark_samples
from openr1.report.numbers import DASH, compact, decimal, finite, integer, interval, percent, plural

VERDICT_TONE: dict[str, Tone] = {"reproduced": "good", "below": "bad", "above": "good", "inconclusive": "quiet"}
MUCH_TRUNCATED, MUCH_NO_ANSWER, MUCH_IDENTICAL, MUCH_DISPUTED = 0.1, 0.3, 0.1, 0.02
Found = Mapping[str, Any]
Row = dict[str, Any]


# ------------------------------------------------------------------------------------------------------------- data
def benchmark_stages(run: Run) -> list[Stage]:
    """The finished stages that answered benchmarks."""
    return [s for s in run.stages if s.done and isinstance(s.results.get("benchmarks"), dict)]


def evaluation_of(run: Run) -> dict[str, Any]:
    """`model`, `engine` and `benchmarks` of the report's JSON: of the only benchmark stage, or the last of several,
    which stand under `evaluations` by their names; nothing where the recipe has none."""
    stages = benchmark_stages(run)
    every = {s.name: _document(s) for s in stages}
    if not every:
        return {}
    return every[stages[-1].name] | ({"evaluations": every} if len(every) > 1 else {})


def _document(stage: Stage) -> dict[str, Any]:
    results = stage.results
    return {
        "model": results.get("model"),
        "engine": results.get("engine_name"),
        "benchmarks": results["benchmarks"],
    }


def link_samples(run: Run) -> None:
    """`samples` in the run's folder: where the samples of its (last) benchmark stage lie."""
    stages = benchmark_stages(run)
    link = run.folder / "samples"
    if not stages or (link.exists() and not link.is_symlink()):
        return
    link.unlink(missing_ok=True)
    link.symlink_to(f"{stages[-1].name}/samples", target_is_directory=True)


def benchmark_warnings(run: Run) -> Iterator[str]:
    """What a reader must know before resting anything on the scores."""
    for stage in benchmark_stages(run):
        for name, found in stage.results["benchmarks"].items():
            yield from (f"{name}: {text}" for text in _warnings(found))


def _warnings(found: Found) -> Iterator[str]:
    n, k = found["n"], found["k"]
    if found.get("unreliable"):
        yield f"unreliable: {found['unreliable']}; the interval of the accuracy says little"
    if (finite(found.get("truncated")) or 0) > MUCH_TRUNCATED:
        whole = found["provenance"]["max_new_tokens"]
        yield f"{percent(found['truncated'])} of the replies were cut at {whole:,} tokens; the budget makes the score"
    if (finite(found.get("no_answer")) or 0) > MUCH_NO_ANSWER:
        yield f"{percent(found['no_answer'])} of the replies hold no answer"
    if n and found["identical"] / n > MUCH_IDENTICAL:
        yield (
            f"all {k} samples are the same text in {found['identical']} of {n} questions; the server may ignore seeds "
            "or temperature, and then k samples are one"
        )
    if found.get("masked"):
        yield f"{plural(found['masked'], 'sample')} could not be had or graded and count neither way"
    flagged = (found.get("contamination") or {}).get("flagged")
    if flagged:
        yield f"{plural(flagged, 'problem')} of {n} stand in the training data"
    second = found.get("second_grader") or {}
    if second.get("failed"):
        yield f"{second['name']} failed on {plural(second['failed'], 'sample')}"
    if second.get("asked") and second["disagreements"] / second["asked"] > MUCH_DISPUTED:
        yield (
            f"{second['name']} disagrees on {second['disagreements']} of {second['asked']} replies; see disagreements/"
        )


# --------------------------------------------------------------------------------------------------------- sections
def benchmark_sections(run: Run, summary: dict[str, Any]) -> Section | None:
    """Scores, the forest of intervals, budgets, lengths, questions and replies of every benchmark stage."""
    stages = benchmark_stages(run)
    if not stages:
        wanted = [s.name for s in run.stages if s.kind == "benchmark"]
        text = f"The stage {', '.join(wanted)} has not finished, so no benchmark has a score yet."
        return Section("benchmarks", "Benchmarks", [Text(text)]) if wanted else None
    blocks: list[Block] = []
    for stage in stages:
        if len(stages) > 1:
            blocks.append(Heading(stage.name, str(stage.results.get("model"))))
        blocks += _stage_blocks(stage)
    return Section("benchmarks", "Benchmarks", blocks)


def _stage_blocks(stage: Stage) -> list[Block]:
    benchmarks: dict[str, dict[str, Any]] = stage.results["benchmarks"]
    found: list[Block | None] = [score_table(benchmarks, str(stage.results.get("model"))), forest(benchmarks)]
    found += [reply_table(benchmarks), several_table(benchmarks), clean_table(benchmarks), reference_table(benchmarks)]
    rows = {name: load_benchmark_samples(stage, name) for name in benchmarks}
    panels = [drawn.budget_chart(name, _moving(b), rests_on(b)) for name, b in benchmarks.items()]
    found += _panels("Accuracy by token budget", panels, budget_data(benchmarks))
    panels = [drawn.length_chart(name, rows[name], rests_on(benchmarks[name])) for name in benchmarks]
    found += _panels("Length of the replies", panels, None)
    heats: list[Block | None] = []
    for name in benchmarks:
        if heat := drawn.heat_map(name, rows[name]):
            heats.append(heat)
    if heats:
        note = "one square a question in the order of the file, darker the more of its samples are correct"
        found += [Heading("Question by question", note), *heats]
    found += [Heading("Replies", "with their verdicts; all of them are in samples/")]
    found += [replies_fold(name, rows[name]) for name in benchmarks if rows[name]]
    return [b for b in found if b is not None]


def _moving(found: Found) -> list[dict[str, Any]]:
    """The curve up to the budget that no reply reaches: past it nothing changes."""
    longest = (found["lengths"] or {}).get("max") or 0
    curve: list[dict[str, Any]] = found["budget_curve"]
    enough = next((i for i, p in enumerate(curve) if p["budget"] >= longest), len(curve) - 1)
    return curve[: enough + 1]


def _panels(title: str, figures: Sequence[Any], data: Table | None) -> list[Block | None]:
    shown = [f for f in figures if f is not None]
    return [Heading(title), Panels(shown, data)] if shown else []


def rests_on(found: Found) -> str:
    """Law 7 in a line: n, k, prompts, grader, engine, dtype, budget."""
    p = found["provenance"]
    drawn_how = "greedy" if p["temperature"] == 0 else f"T {p['temperature']:g}, top-p {p['top_p']:g}"
    engine = ", ".join(str(x) for x in (p["engine"], p.get("dtype")) if x)
    return (
        f"n = {found['n']:,}, k = {found['k']} · prompts {str(p['prompt_hash'])[:8]} · {p['verifier']} · {engine} · "
        f"{p['max_new_tokens']:,} tokens, {drawn_how}"
    )


def score_table(benchmarks: Mapping[str, Found], model: str) -> Table:
    """Accuracy with both intervals, and what it rests on under each name."""
    columns = [Column("Benchmark", text=30), Column("Accuracy", True), Column("These questions again", True)]
    columns += [Column("cons@k", True), Column("Published"), Column("Verdict")]
    rows: list[list[Cell | str]] = []
    for name, b in benchmarks.items():
        reference = b["reference"]
        again = interval(b["low_resampling"], b["high_resampling"]) or DASH
        accuracy = Cell(percent(b["accuracy"]), interval(b["low"], b["high"]), "bad" if b["unreliable"] else "")
        verdict = str(reference["verdict"] or DASH)
        published = Cell(percent(reference["value"]), reference.get("source", "") if reference["value"] else "")
        rows.append(
            [
                Cell(name, rests_on(b)),
                accuracy,
                again,
                Cell(percent(b["cons"]), b.get("no_cons") or ""),
                published,
                Cell(verdict, str(reference.get("why") or ""), VERDICT_TONE.get(verdict, "quiet")),
            ]
        )
    note = (
        "Accuracy: the mean over questions of the share of correct samples; under it the 95% interval for other "
        "questions of this kind (the question is the unit). These questions again: the 95% interval if only the "
        "samples were drawn anew. cons@k: the most frequent answer is right, ties in expectation. Verdict: "
        "reproduced, where the difference to the published number is 0 within both sides' errors, known to 3 points."
    )
    return Table(columns, rows, f"What {model} scores", note)


def forest(benchmarks: Mapping[str, Found]) -> Any:
    """Every accuracy with both intervals, published numbers beside them."""

    def group(low: str, high: str) -> list[charts.Estimate]:
        return [charts.Estimate(n, b["accuracy"], b[low], b[high]) for n, b in benchmarks.items()]

    groups = {"questions of this kind": group("low", "high")}
    if any(b["low_resampling"] is not None for b in benchmarks.values()):
        groups["these questions again"] = group("low_resampling", "high_resampling")
    published = [charts.Estimate(n, v, None, None) for n, b in benchmarks.items() if (v := b["reference"]["value"])]
    if published:
        groups["published"] = published
    return charts.interval_chart("Accuracy with 95% intervals", groups)


def reply_table(benchmarks: Mapping[str, Found]) -> Table:
    """How replies ended, how long they are, and the score of those that were not cut."""
    titles = ("Truncated", "No answer", "Thinking not closed", "Tokens, mean", "Median", "p99", "Generated")
    columns = [Column("Benchmark"), *(Column(t, True) for t in titles), Column("Accuracy of the untruncated", True)]
    language = any(b.get("language") for b in benchmarks.values())
    columns += [Column("Language", True)] if language else []
    rows: list[list[Cell | str]] = []
    for name, b in benchmarks.items():
        lengths, whole = b["lengths"], b["untruncated"]
        spoken = b.get("language") or {}
        of = f"{interval(whole['low'], whole['high'])}, n = {whole['n']:,}" if whole["n"] else ""
        row: list[Cell | str] = [Cell(name), *(percent(b[key]) for key in ("truncated", "no_answer", "unclosed"))]
        row += [decimal(lengths.get("mean")), integer(lengths.get("median")), integer(lengths.get("p99"))]
        row += [compact(b["tokens"]), Cell(percent(whole["accuracy"]), of)]
        row += [Cell(percent(spoken.get("share")), str(spoken.get("language", "")))] if language else []
        rows.append(row)
    note = "Truncated: cut at the token budget. Its untruncated accuracy leaves the hard questions out: no score."
    if language:
        note += " Language: the mean share of the benchmark's language among the words of the reasoning."
    return Table(columns, rows, "How the replies ended", note)


def several_table(benchmarks: Mapping[str, Found]) -> Table | None:
    """pass@k at every k that was computed."""
    ks = sorted({int(k) for b in benchmarks.values() for k in b["pass_at"]})
    if ks in ([], [1]):
        return None
    columns = [Column("Benchmark"), *(Column(f"pass@{k}", True) for k in ks)]
    rows: list[list[Cell | str]] = [
        [Cell(name), *(percent(b["pass_at"].get(str(k))) for k in ks)] for name, b in benchmarks.items()
    ]
    return Table(columns, rows, "Several tries a question", "pass@k: the unbiased estimate from all k samples.")


def clean_table(benchmarks: Mapping[str, Found]) -> Table | None:
    """The score without the problems that stand in the training data; the second grader's disagreements."""
    checked = {n: b for n, b in benchmarks.items() if b.get("contamination") or b.get("second_grader")}
    if not checked:
        return None
    columns = [Column("Benchmark"), Column("In training data", True), Column("Accuracy without them", True)]
    columns += [Column("Second grader disagrees", True), Column("Only ours says correct", True)]
    rows: list[list[Cell | str]] = []
    for name, b in checked.items():
        seen, second = b.get("contamination"), b.get("second_grader")
        clean = seen["clean"] if seen else {}
        rest = f"{interval(clean.get('low'), clean.get('high'))}, n = {clean.get('n')}" if seen else ""
        row: list[Cell | str] = [Cell(name), integer(seen["flagged"]) if seen else "not looked for"]
        row += [Cell(percent(clean.get("accuracy")), rest)]
        row += [f"{second['disagreements']} of {second['asked']}" if second else DASH]
        row += [integer(second["only_first_says_correct"]) if second else DASH]
        rows.append(row)
    note = "Training data: what `trained_on` names. Second grader: math-verify, with its own extraction."
    return Table(columns, rows, "Checks", note)


def reference_table(benchmarks: Mapping[str, Found]) -> Fold | None:
    """Every published cell beside ours."""
    rows: list[list[Cell | str]] = []
    for name, b in benchmarks.items():
        for cell in b["reference"].get("all", []):
            rate = cell["metric"] != "rating"
            difference = finite(cell.get("difference"))
            shown = DASH if difference is None else f"{100 * difference:+.1f} points"
            rows.append(
                [
                    Cell(name, str(cell["metric"])),
                    percent(cell["value"]) if rate else integer(cell["value"]),
                    percent(cell["ours"]),
                    Cell(shown, interval(cell["low"], cell["high"])),
                    Cell(str(cell["verdict"]), str(cell["why"] or ""), VERDICT_TONE.get(cell["verdict"], "quiet")),
                    Cell(str(cell["source"]), f"k = {cell['k']}" if cell["k"] else "k not stated"),
                ]
            )
    if not rows:
        return None
    columns = [Column("Benchmark"), Column("Published", True), Column("Here", True), Column("Difference", True)]
    columns += [Column("Verdict", text=20), Column("Source", text=24)]
    return Fold(f"All {len(rows)} published numbers of this model on these benchmarks", [Table(columns, rows)])


def budget_data(benchmarks: Mapping[str, Found]) -> Table | None:
    budgets = sorted({p["budget"] for b in benchmarks.values() for p in b["budget_curve"]})
    if not budgets:
        return None
    columns = [Column("Benchmark"), *(Column(f"{b:,}", True) for b in budgets)]
    rows: list[list[Cell | str]] = []
    for name, b in benchmarks.items():
        at = {p["budget"]: p for p in b["budget_curve"]}
        cells = [at.get(budget) for budget in budgets]
        rows.append(
            [Cell(name), *(Cell(percent(p["accuracy"]), interval(p["low"], p["high"])) if p else DASH for p in cells)]
        )
    return Table(columns, rows, "Accuracy by token budget")


def replies_fold(name: str, rows: Sequence[Row]) -> Fold | None:
    """Replies with their verdicts, to read."""
    shown = browsable(rows)
    if not shown:
        return None
    total = len({r["prompt_id"] for r in rows})
    return Fold(f"{name}: replies to {len(shown)} of {total} questions", shown)
