"""Stage `generate`: completions of a model for every prompt, into the append-only store."""

from __future__ import annotations

from collections.abc import Sequence

from openr1.engines.base import generation_flops
from openr1.records import Completion
from openr1.stages.base import Output, StageContext, StageResult, completion_store, read_prompts
from openr1.stages.model_input import model_folder
from openr1.stages.settings import GenerateStage


def run(ctx: StageContext) -> StageResult:
    from openr1.engines import collect, make_requests, open_engine

    settings: GenerateStage = ctx.settings
    prompts = read_prompts(ctx.path("data"))
    model = model_folder(ctx)
    engine = open_engine(settings.engine, model)
    identity = {
        "model": ctx.inputs["model"].hash if "model" in ctx.inputs else settings.model and settings.model.identity(),
        "sampling": settings.sampling.identity(),
        "prefill": settings.prefill,
        "seed": settings.seed,
    }
    requests = make_requests(prompts, settings.k, settings.seed)
    try:
        with completion_store(ctx.folder / "store", identity) as store:
            before = len(store)
            collect(engine, requests, settings.sampling, store, prefill=settings.prefill, title=ctx.name)
            store.seal()
            rows = store.rows()
            output = Output("completions", len(store), store.content_hash(), in_place=True)
    finally:
        engine.close()
    tokens, parameters = token_counts(rows), getattr(engine, "parameters", None)
    flops = None if parameters is None else generation_flops(parameters, sum(tokens.values()))
    return StageResult(
        {"store": output},
        counts={
            "in": len(prompts),
            "out": output.rows,
            "new": (output.rows or 0) - before,
            "failed": sum(c.error is not None for c in rows),
        },
        tokens=tokens,
        results={"parameters": parameters, "flops": flops},
    )


def token_counts(rows: Sequence[Completion]) -> dict[str, int]:
    """Tokens read and generated for `rows`, whichever attempt made them."""
    return {"prompt": sum(c.prompt_tokens for c in rows), "generated": sum(c.completion_tokens for c in rows)}
