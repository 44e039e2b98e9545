"""Stage `sft`: supervised fine-tuning on curated completions or on a task's worked solutions."""

from __future__ import annotations

from typing import Any

from openr1.errors import UserError
from openr1.stages.base import PARTIAL, Output, StageContext, StageResult, read_prompts, sft_rows
from openr1.stages.model_input import model_folder
from openr1.stages.settings import SFTStage


def run(ctx: StageContext) -> StageResult:
    from openr1.train.sft import run_sft

    settings: SFTStage = ctx.settings
    rows = sft_rows(ctx.path("data"))
    if not rows:
        raise UserError(f"{ctx.name}: {ctx.inputs['data'].ref} holds no completion or solution to learn from")
    dev = read_prompts(ctx.path("dev")) if "dev" in ctx.inputs else None
    result = run_sft(
        model_dir=model_folder(ctx),
        rows=rows,
        settings=settings,
        out=ctx.folder / PARTIAL / "model",
        work=ctx.folder,
        metrics=ctx.metrics,
        seed=settings.seed,
        progress=ctx.name,
        logs=ctx.logs,
        dev=dev,
    )
    return training_result(result, len(rows))


def training_result(result: Any, rows: int) -> StageResult:
    """What a TrainResult says, in the manifest's terms."""
    return StageResult(
        {"model": Output("model")},
        counts={"in": rows, "out": rows - sum(result.dropped.values()), "dropped": result.dropped},
        tokens=result.tokens,
        results={
            "steps": result.steps,
            "parameters": result.parameters,
            "flops": result.flops,
            "stopped": result.stopped,
            "parallel": result.parallel,
            "guards": result.guards,
            "profile": result.profile,
            **({"best": result.best} if result.best else {}),
        },
        phases=result.phases,
    )
