"""`openr1 compare` for evaluations: the same questions, model against model, with how sure one can be.

The first run is what the others are held against. A question's value is the mean over its samples, so that k may
differ; the questions must not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from openr1.errors import UserError
from openr1.evaluate.difference import compare_questions, holm
from openr1.evaluate.statistics import Counts, clustered
from openr1.records import MASKED
from openr1.report.benchmarks import benchmark_stages
from openr1.report.load import Run, load_benchmark_samples, load_run, load_samples

SURE = 0.05
SAME_THING = ("max_new_tokens", "temperature", "top_p", "top_k", "verifier", "prompt_hash", "engine", "dtype")
CANNOT_TELL = "cannot tell"
Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """One benchmark as one model answered it. `rests_on`: what must agree for a comparison to be of models alone."""

    run: str
    model: str
    benchmark: str
    rows: Sequence[Row] = field(repr=False)
    rests_on: Mapping[str, Any] = field(repr=False)

    def means(self) -> dict[str, float]:
        """Share of correct samples by question; questions of which nothing could be graded are left out."""
        graded: dict[str, list[float]] = {}
        for r in self.rows:
            if r["status"] not in MASKED:
                graded.setdefault(r["prompt_id"], []).append(float(r["status"] == "correct"))
        return {q: fmean(marks) for q, marks in graded.items()}

    def counts(self) -> list[Counts]:
        marks: dict[str, list[bool]] = {}
        for r in self.rows:
            if r["status"] not in MASKED:
                marks.setdefault(r["prompt_id"], []).append(r["status"] == "correct")
        return [Counts(sum(m), len(m)) for m in marks.values()]

    @property
    def questions(self) -> set[str]:
        return {r["prompt_id"] for r in self.rows}

    @property
    def k(self) -> int:
        return max((r["sample_index"] for r in self.rows), default=-1) + 1


def evaluations(run: Run) -> dict[str, Evaluated]:
    """What a run measured, by benchmark; of its `evaluate` stages, by stage and mode."""
    found: dict[str, Evaluated] = {}
    for stage in benchmark_stages(run):
        for name, b in stage.results["benchmarks"].items():
            model, rows = str(stage.results.get("model")), load_benchmark_samples(stage, name)
            found[name] = Evaluated(run.name, model, name, rows, b["provenance"])
    for stage in run.stages:
        if not stage.done or stage.kind != "evaluate":
            continue
        table = load_samples(stage)
        rows = sorted(table.to_pylist(), key=lambda r: str(r["mode"])) if table is not None else []
        for mode, of_mode in groupby(rows, key=lambda r: str(r["mode"])):
            name = f"{stage.name} ({mode})"
            rests = {key: stage.results.get(key) for key in ("verifier", "prompt_hash")}
            found[name] = Evaluated(run.name, str(stage.results.get("model")), name, list(of_mode), rests)
    return found


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Every benchmark that the first run shares with each other one, compared question by question.

    Returns `runs`, and `comparisons`: {benchmark, a, b, accuracy_a, accuracy_b (with intervals), difference, low,
    high, p, p_holm, detectable, n, k_a, k_b, better, differs}. `difference` is b - a. `better`: the run whose model
    is better at 5% after Holm over all comparisons, or `cannot tell`.

    Raises:
        UserError: fewer than two runs, one that has not been evaluated, nothing in common, or different questions.
    """
    if len(folders) < 2:
        raise UserError("compare: one run is nothing to compare; name two or more")
    runs = [load_run(f) for f in folders]
    labels = _labels(runs)
    measured = [evaluations(run) for run in runs]
    problems = [
        f"{label}: no finished evaluation in this run; make one with openr1 evaluate, or finish it"
        for label, found in zip(labels, measured, strict=True)
        if not found
    ]
    if problems:
        raise UserError(*problems)
    pairs = list(_pairs(labels, measured, problems))
    if problems:
        raise UserError(*problems)
    compared = [_compared(*pair) for pair in pairs]
    for found, p in zip(compared, holm([c["p"] for c in compared]), strict=True):
        found["p_holm"] = p
        better = found["b"] if found["difference"] > 0 else found["a"]
        found["better"] = better if p <= SURE and found["difference"] else CANNOT_TELL
    described = [
        {"run": label, "models": sorted({e.model for e in found.values()}), "path": str(run.folder)}
        for label, run, found in zip(labels, runs, measured, strict=True)
    ]
    return {"runs": described, "comparisons": compared}


def _labels(runs: Sequence[Run]) -> list[str]:
    """Names of the runs, with as much of their paths as tells them apart."""
    names = [run.name.rstrip("/").rpartition("/")[2] for run in runs]
    return [str(run.folder) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]


def _pairs(
    labels: Sequence[str], measured: Sequence[Mapping[str, Evaluated]], problems: list[str]
) -> Iterator[tuple[str, Evaluated, str, Evaluated]]:
    first = measured[0]
    for label, other in zip(labels[1:], measured[1:], strict=True):
        shared = [name for name in first if name in other]
        if not shared:
            problems.append(
                f"{labels[0]} and {label} have no benchmark in common ({', '.join(first)} against "
                f"{', '.join(other)}); evaluate both on the same"
            )
        apart: dict[str, list[str]] = {}
        for name in shared:
            a, b = first[name], other[name]
            both = a.questions & b.questions
            if a.questions != b.questions:
                counts = f"{len(both)} shared of {len(a.questions)} and {len(b.questions)}"
                apart.setdefault(counts, []).append(name)
            elif len(a.means().keys() & b.means().keys()) < 2:
                problems.append(f"{name}: fewer than 2 questions were graded on both sides; nothing can be compared")
            else:
                yield labels[0], a, label, b
        problems += [
            f"{', '.join(names)}: {labels[0]} and {label} were asked different questions ({counts}); evaluate both on "
            "the same, with the same limit"
            for counts, names in apart.items()
        ]


def _compared(a_label: str, a: Evaluated, b_label: str, b: Evaluated) -> dict[str, Any]:
    a_means, b_means = a.means(), b.means()
    found = compare_questions(b_means, a_means)
    sides: dict[str, Any] = {}
    for side, evaluated in (("a", a), ("b", b)):
        own = clustered(evaluated.counts())
        sides |= {f"accuracy_{side}": own.value, f"low_{side}": own.low, f"high_{side}": own.high}
        sides |= {f"k_{side}": evaluated.k, f"model_{side}": evaluated.model}
    d = asdict(found.difference)
    shared = a_means.keys() & b_means.keys()
    return {
        "benchmark": a.benchmark, "a": a_label, "b": b_label, **sides,
        "difference": d["value"], "low": d["low"], "high": d["high"], "detectable": d["detectable"], "n": d["n"],
        "p": found.p, "p_t": d["p"], "p_holm": None, "better": CANNOT_TELL,
        "higher_a": sum(a_means[q] > b_means[q] for q in shared),
        "higher_b": sum(b_means[q] > a_means[q] for q in shared),
        "differs": _differs(a.rests_on, b.rests_on),
    }  # fmt: skip


def _differs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What else than the model is not the same on both sides."""
    other = [key for key in SAME_THING if a.get(key) != b.get(key)]
    return [f"{key.replace('_', ' ')}: {a.get(key)} against {b.get(key)}" for key in other]


def as_csv(found: Mapping[str, Any]) -> str:
    """One row a comparison."""
    out = io.StringIO()
    rows = [{**c, "differs": "; ".join(c["differs"])} for c in found["comparisons"]]
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
