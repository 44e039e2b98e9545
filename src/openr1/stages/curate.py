"""Stage `curate`: an SFT set, an RL set, every generation with its verdicts, and what was dropped and why."""

from __future__ import annotations

from openr1.curate.schemas import ALL_SCHEMA, DROPPED_SCHEMA, RL_SCHEMA, SFT_SCHEMA
from openr1.curate.select import curate
from openr1.errors import UserError
from openr1.stages.base import (
    Output,
    StageContext,
    StageResult,
    read_completions,
    read_prompts,
    verdict_store,
    write_rows,
)
from openr1.stages.settings import CurateStage

SCHEMAS = {"sft": SFT_SCHEMA, "rl": RL_SCHEMA, "all": ALL_SCHEMA, "dropped": DROPPED_SCHEMA}


def run(ctx: StageContext) -> StageResult:
    settings: CurateStage = ctx.settings
    prompts = read_prompts(ctx.path("data"))
    completions = read_completions(ctx.path("completions"), prompts)
    graded = {(r.prompt_id, r.sample_index): r for r in verdict_store(ctx.path("verdicts"), {}).load().rows()}
    missing = sum(c.key not in graded for c in completions)
    if missing:
        raise UserError(f"{ctx.name}: {missing} of {len(completions)} completions have no verdict; run verify first")
    verdicts = {key: row.verdict() for key, row in graded.items()}
    sets = curate(prompts, completions, verdicts, settings.curate, settings.seed)
    outputs: dict[str, Output] = {}
    for name, schema in SCHEMAS.items():
        outputs[name] = Output(name, write_rows(ctx.partial(name), getattr(sets, name), schema).rows)
    if not sets.sft and not sets.rl:
        reasons = ", ".join(f"{r}: {n}" for r, n in sets.reasons.most_common(5))
        raise UserError(f"{ctx.name}: nothing is left of {len(completions)} completions ({reasons})")
    return StageResult(
        outputs,
        counts={
            "in": len(completions),
            "out": len(sets.sft),
            "prompts": len(prompts),
            "rl": len(sets.rl),
            "dropped": dict(sorted(sets.reasons.items())),
        },
        results={"mean_pass_rate": _mean([r["pass_rate"] for r in sets.all if r["pass_rate"] is not None])},
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
