"""Stage `benchmark`: one model answers benchmarks, question by question into stores, and is graded and summed up.

Each benchmark has a store of completions and one of verdicts of its own; a killed stage loses the requests in flight,
and a larger `k` or another benchmark asks only for what is missing. One engine serves all of them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openr1.engines.settings import OpenAISettings
from openr1.evaluate.reference import beside_reference, reference_model
from openr1.evaluate.samples import BENCHMARK_SAMPLES_SCHEMA, samples_table
from openr1.evaluate.scores import Sample, question_hash, score
from openr1.evaluate.second import disagrees, second_opinions
from openr1.evaluate.seen import flagged, training_files
from openr1.evaluate.statistics import Counts
from openr1.records import Completion
from openr1.stages.base import (
    GradedRow,
    Output,
    StageContext,
    StageResult,
    refuse_other_versions,
    verdict_store,
    write_rows,
)
from openr1.stages.benchmark_answers import answers
from openr1.stages.generate import LazyEngine, token_counts
from openr1.stages.model_input import StageModel, model_name, stage_model
from openr1.stages.settings import BenchmarkStage
from openr1.tasks.definitions import load_benchmark
from openr1.tasks.questions import BenchmarkQuestion, Questions, questions_at
from openr1.verify import prepare

logger = logging.getLogger("openr1")
GRADED_AT_A_TIME = 1024
MANY_COPIES = 0.1  # of the questions: a few easy ones are answered alike by chance


def run(ctx: StageContext) -> StageResult:
    from openr1.engines import open_engine

    settings: BenchmarkStage = ctx.settings
    found = {name: questions_at(name, settings.revisions, limit=settings.limit) for name in settings.benchmarks}
    questions = {name: q.questions for name, q in found.items()}
    graders = prepare(load_benchmark(name).verifier for name in settings.benchmarks)
    files = training_files(settings.trained_on)
    published = reference_model(model_name(ctx), settings.reference)
    model = stage_model(ctx)
    engine = LazyEngine(lambda: open_engine(engine_settings(settings), model.folder, ctx.folder / "logs"))
    started = time.monotonic()
    try:
        replies = answers(ctx, engine, model, questions)
    finally:
        engine.close()
    generated = time.monotonic() - started
    said = engine.said or {key: ctx.earlier.get(key) for key in ("engine", "parameters")}
    samples = {name: _graded(ctx, name, questions[name], replies[name]) for name in settings.benchmarks}
    results: dict[str, Any] = {"model": settings.name or model_name(ctx), **said, "engine_name": settings.engine.name}
    dtype = (said["engine"] or {}).get("dtype") or _dtype(ctx, model)
    results["benchmarks"] = {
        name: _scored(ctx, name, found[name], samples[name], files, published, dtype) for name in settings.benchmarks
    }
    verifiers = {f"{s.verdict.verifier}/{s.verdict.version}" for rows in samples.values() for s in rows}
    results["verifier"] = ", ".join(sorted(verifiers))
    rows, differ = _write(ctx, samples)
    every = [c for rows in replies.values() for c in rows]
    return StageResult(
        {"samples": Output("samples", rows), "disagreements": Output("samples", differ)},
        counts={
            "in": sum(map(len, questions.values())),
            "out": rows,
            "failed": sum(c.error is not None for c in every),
        },
        tokens=token_counts(every),
        results=results | graders,
        phases={"generate": generated, "grade": time.monotonic() - started - generated},
    )


def engine_settings(settings: BenchmarkStage) -> Any:
    """The engine's settings; an endpoint that is told no model's name is asked for the one that the stage names."""
    engine = settings.engine
    named = settings.model is not None and settings.model_folder is None and settings.model.source != "scratch"
    if isinstance(engine, OpenAISettings) and engine.model is None and engine.api == "chat" and named:
        assert settings.model is not None
        return engine.model_copy(update={"model": settings.model.source.removeprefix("hub:").partition("@")[0]})
    return engine


def _dtype(ctx: StageContext, model: StageModel) -> str | None:
    """What the weights are computed in, as far as the engine or the model's files say."""
    stated = getattr(ctx.settings.engine, "dtype", None)
    if stated not in (None, "auto"):
        return str(stated)
    if model.folder is None or not (model.folder / "config.json").exists():
        return None
    config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    found = config.get("dtype") or config.get("torch_dtype")
    return str(found) if found else None


def _graded(
    ctx: StageContext, name: str, questions: Sequence[BenchmarkQuestion], answers: Sequence[Completion]
) -> list[Sample]:
    """Every answer with its verdict; verdicts that the store has are not made again."""
    from openr1.verify import grade_completions

    settings: BenchmarkStage = ctx.settings
    by_id = {q.id: q for q in questions}
    prompts = [by_id[c.prompt_id].prompt(c.sample_index, settings.seed) for c in answers]
    with verdict_store(ctx.folder / "store" / f"{name}_verdicts", {"version": settings.version}) as store:
        refuse_other_versions(ctx.name, store)
        todo = [(p, c) for p, c in zip(prompts, answers, strict=True) if c.key not in store]
        for start in range(0, len(todo), GRADED_AT_A_TIME):
            batch = todo[start : start + GRADED_AT_A_TIME]
            verdicts = grade_completions([p for p, _ in batch], [c for _, c in batch])
            store.append([GradedRow.of(c.key, v) for (_, c), v in zip(batch, verdicts, strict=True)])
        store.seal()
        rows = {(r.prompt_id, r.sample_index): r.verdict() for r in store.iter_rows()}
    found = [rows[c.key] for c in answers]
    second = second_opinions(prompts, answers, found) if settings.second_grader else [None] * len(answers)
    return [Sample(by_id[c.prompt_id], p, c, v, s) for p, c, v, s in zip(prompts, answers, found, second, strict=True)]


def _scored(
    ctx: StageContext,
    name: str,
    asked: Questions,
    samples: Sequence[Sample],
    files: Sequence[Path],
    published: str | None,
    dtype: str | None,
) -> dict[str, Any]:
    """A benchmark's numbers, the published ones beside them, and what they rest on."""
    settings: BenchmarkStage = ctx.settings
    benchmark, sampling, questions = load_benchmark(name), settings.sampling_of(name).model_dump(), asked.questions
    seen = flagged(questions, files) if files else None
    found = score(benchmark, settings, name, samples, seen)
    by_question: dict[str, list[bool]] = {}
    for s in samples:
        if s.counts:
            by_question.setdefault(s.question.id, []).append(s.right)
    counts = [Counts(sum(rights), len(rights)) for rights in by_question.values()]
    found["reference"] = beside_reference(name, published, counts, sampling, benchmark.problems, found["cons"])
    found["provenance"] = {
        "prompt_hash": question_hash(settings, questions),
        "verifier": ", ".join(sorted({f"{s.verdict.verifier}/{s.verdict.version}" for s in samples})),
        "engine": settings.engine.name, "dtype": dtype, **sampling, "seed": settings.seed,
        "questions": f"{len(questions)} of {benchmark.problems}",
        "source": benchmark.source.id if benchmark.source else "reasoning-gym" if benchmark.generated else "eval/data",
        "revision": asked.commits.get(name), "tests_revision": asked.commits.get(f"{name}_tests"),
    }  # fmt: skip
    if found["identical"] > MANY_COPIES * found["n"]:
        logger.warning("%s: %s", name, identical_text(found))
    return found


def identical_text(found: dict[str, Any]) -> str:
    """What is wrong where samples of a question are copies."""
    return (
        f"all {found['k']} samples are the same text in {found['identical']} of {found['n']} questions; if these are "
        "many, the server ignores seeds or temperature, and k samples are one"
    )


def _write(ctx: StageContext, samples: dict[str, list[Sample]]) -> tuple[int, int]:
    """A file of samples a benchmark, and one of those on which the two graders disagree; how many rows each."""
    import pyarrow.parquet as pq

    folder, rows = ctx.partial("samples"), 0
    for name, found in samples.items():
        greedy = ctx.settings.sampling_of(name).temperature == 0
        table = samples_table(found, "greedy" if greedy else "sampled")
        pq.write_table(table, folder / f"{name}.parquet")
        rows += table.num_rows
    differ = [s for found in samples.values() for s in found if disagrees(s.verdict.status, s.second)]
    write_rows(ctx.partial("disagreements"), samples_table(differ), BENCHMARK_SAMPLES_SCHEMA)
    return rows, len(differ)
