"""What a reader must know before trusting the numbers, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openr1.report.benchmarks import benchmark_warnings
from openr1.report.load import TRAINING_KINDS, Run, Stage
from openr1.report.numbers import finite, percent, plural

SMALL_N = 100
MUCH_TRUNCATED = 0.1
MUCH_NO_ANSWER = 0.3
MOSTLY_ZERO_VARIANCE = 0.8


def warnings_of(run: Run, summary: dict[str, Any]) -> list[str]:
    """Every warning of a run, in the order of its stages."""
    return [
        *_unfinished(run),
        *benchmark_warnings(run),
        *_models(summary["models"]),
        *_training(run),
        *_provenance(run),
    ]


def _unfinished(run: Run) -> Iterator[str]:
    idle = [s.name for s in run.stages if s.status == "not run"]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        yield f"{plural(len(idle), 'stage')} of the recipe {verb} not run: {', '.join(idle)}"
    for stage in run.stages:
        if stage.status == "failed":
            yield f"stage {stage.name} failed{_reason(stage)}; its numbers are missing here"
        elif stage.status == "unfinished":
            yield f"stage {stage.name} has begun and not ended; the same command again resumes it"
        elif stage.status == "unreadable":
            yield f"stage {stage.name}: {stage.problem}"


def _reason(stage: Stage) -> str:
    end = stage.manifest.exit if stage.manifest else {}
    first = str(end.get("reason") or "").strip().splitlines()
    return f" ({first[0][:200]})" if first else ""


def _models(models: dict[str, dict[str, Any]]) -> Iterator[str]:
    few: dict[int, list[str]] = {}
    for name, entry in models.items():
        n = (entry.get("greedy") or entry.get("sampled") or {}).get("n")
        if n and n < SMALL_N:
            few.setdefault(n, []).append(name)
    for n, names in few.items():
        yield f"measured on {plural(n, 'question')} only, so the intervals are wide: {', '.join(names)}"
    for name, entry in models.items():
        if (finite(entry.get("truncated")) or 0) > MUCH_TRUNCATED:
            yield f"{percent(entry['truncated'])} of {name}'s completions were cut at the token limit"
        sampled = finite((entry.get("sampled") or {}).get("truncated")) or 0
        if entry.get("greedy") and sampled > MUCH_TRUNCATED:
            yield f"{percent(sampled)} of {name}'s sampled completions were cut at the token limit"
        if (finite(entry.get("no_answer")) or 0) > MUCH_NO_ANSWER:
            yield f"{percent(entry['no_answer'])} of {name}'s completions hold no answer"
        masked = sum(int((entry.get("by_status") or {}).get(k, 0)) for k in ("infra_error", "bad_gold"))
        if masked:
            yield f"{name}: {plural(masked, 'completion')} could not be graded and count neither way"
    for field, what in (("prompt_hash", "questions"), ("verifier", "versions of the verifier")):
        if len({str(e[field]) for e in models.values() if e.get(field)}) > 1:
            yield f"the models were measured with different {what}: their accuracies cannot be compared directly"


def _training(run: Run) -> Iterator[str]:
    for stage in run.stages:
        kind = stage.kind or (stage.manifest.kind if stage.manifest else "")
        if kind not in TRAINING_KINDS or not stage.metrics:
            continue
        broken = [row["step"] for row in stage.metrics if "loss" in row and finite(row["loss"]) is None]
        if broken:
            yield f"stage {stage.name}: the loss was not finite at {plural(len(broken), 'step')} (first: {broken[0]})"
        last = stage.metrics[-max(1, len(stage.metrics) // 4) :]
        flat = [v for row in last if (v := finite(row.get("zero_variance_groups"))) is not None]
        if flat and sum(flat) / len(flat) > MOSTLY_ZERO_VARIANCE:
            yield (
                f"stage {stage.name}: in its last quarter {percent(sum(flat) / len(flat), 0)} of the groups had equal "
                "rewards, which teach nothing"
            )
        masked = max((finite(row.get("masked")) or 0 for row in stage.metrics), default=0)
        if masked > 0:
            yield f"stage {stage.name}: up to {percent(masked)} of a batch could not be graded and was masked"
        yield from _guards(stage)


def _guards(stage: Stage) -> Iterator[str]:
    guards = (stage.manifest.results.get("guards") or {}) if stage.manifest else {}
    for name, seen in guards.items():
        if seen["warned"]:
            yield (
                f"stage {stage.name}: guard {name} warned at {plural(seen['warned'], 'step')} of {seen['measured']} "
                f"(first: {seen['first_step']}, worst value: {seen['worst']:.3g})"
            )


def _provenance(run: Run) -> Iterator[str]:
    manifests = run.manifests()
    if any((m.git or {}).get("dirty") for m in manifests):
        yield "the checkout had uncommitted changes: the commit alone does not give this run again"
    if len({(m.git or {}).get("commit") for m in manifests if m.git}) > 1:
        yield "the stages ran at different commits"
    for package in sorted({p for m in manifests for p in m.versions}):
        found = {m.versions[package] for m in manifests if package in m.versions}
        if len(found) > 1:
            yield f"the stages ran with different versions of {package}: {', '.join(sorted(found))}"
