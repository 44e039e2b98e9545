"""Stage `evaluate`: greedy and sampled answers to held-out prompts, graded, with intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence

from openr1.engines.base import Engine
from openr1.records import Completion, Prompt, Verdict
from openr1.stages.base import (
    Output,
    StageContext,
    StageResult,
    completion_store,
    read_prompts,
    refuse_other_versions,
    verdict_store,
    write_rows,
)
from openr1.stages.generate import token_counts
from openr1.stages.grading import Golds, Grader, completion_tables
from openr1.stages.model_input import StageModel, model_name, stage_model, store_identity
from openr1.stages.settings import EvaluateStage
from openr1.verify import prepare


def run(ctx: StageContext) -> StageResult:
    from openr1.engines import open_engine
    from openr1.evaluate import SAMPLES_SCHEMA, sample_rows, summarise

    settings: EvaluateStage = ctx.settings
    prompts = read_prompts(ctx.path("data"))
    graders = prepare(p.verifier for p in prompts)
    started = time.monotonic()
    model = stage_model(ctx)
    engine = open_engine(settings.engine, model.folder, ctx.folder / "logs")
    modes = ([("greedy", 1, 0.0)] if settings.greedy else []) + (
        [("sampled", settings.k, settings.sampling.temperature)] if settings.k else []
    )
    answers: dict[str, list[Completion]] = {}
    verdicts: dict[str, list[Verdict]] = {}
    try:
        for mode, k, temperature in modes:
            answers[mode] = _answer(ctx, engine, model, prompts, mode, k, temperature)
    finally:
        engine.close()
    generated = time.monotonic() - started
    golds = Golds(ctx.path("data"))
    for mode in answers:
        verdicts[mode] = _grade(ctx, golds, answers[mode], mode)
    results = summarise(
        model=settings.name or model_name(ctx),
        prompts=prompts,
        completions=answers,
        verdicts=verdicts,
        parameters=getattr(engine, "parameters", None),
        seconds=time.monotonic() - started,
        pass_at=settings.pass_at,
        cons=settings.cons,
        native=settings.format == "native",
        reflection_words=settings.reflection_words,
        language=settings.language,
        language_by=settings.language_by,
    )
    rows = sample_rows(prompts, answers, verdicts)
    output = write_rows(ctx.partial("samples"), rows, SAMPLES_SCHEMA)
    return StageResult(
        {"samples": Output("samples", output.rows)},
        counts={"in": len(prompts), "out": output.rows},
        tokens=token_counts([c for rows in answers.values() for c in rows]),
        results=results | graders,
        phases={"generate": generated, "grade": time.monotonic() - started - generated},
    )


def _answer(
    ctx: StageContext,
    engine: Engine,
    model: StageModel,
    prompts: Sequence[Prompt],
    mode: str,
    k: int,
    temperature: float,
) -> list[Completion]:
    """The first `k` answers to every prompt in this mode, from the store or from the engine."""
    from openr1.engines import collect, make_requests

    settings: EvaluateStage = ctx.settings
    sampling = settings.sampling.model_copy(update={"temperature": temperature})
    identity = store_identity(ctx, sampling, model, engine)
    requests = make_requests(prompts, k, settings.seed)
    with completion_store(ctx.folder / "store" / mode, identity) as store:
        title = f"{ctx.name} ({mode})"
        collect(engine, requests, sampling, store, prefill=settings.prefill, title=title)
        store.seal()
        wanted = {(r.prompt_id, r.sample_index) for r in requests}
        return [c for c in store.rows() if c.key in wanted]


def _grade(ctx: StageContext, golds: Golds, answers: Sequence[Completion], mode: str) -> list[Verdict]:
    """A verdict for every answer; those that the store has are not asked for again."""
    store_folder = ctx.folder / "store" / mode
    with verdict_store(store_folder.with_name(f"{mode}_verdicts"), {"version": ctx.settings.version}) as store:
        refuse_other_versions(ctx.name, store)
        grader = Grader(golds, store)
        for table in completion_tables(store_folder):
            grader.grade(table)
        store.seal()
        rows = {(r.prompt_id, r.sample_index): r for r in store.rows()}
    return [rows[c.key].verdict() for c in answers]
