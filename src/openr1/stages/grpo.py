"""Stage `grpo`: reinforcement learning with verifiable rewards."""

from __future__ import annotations

from openr1.errors import UserError
from openr1.records import PREFERENCE_TYPES
from openr1.stages.base import PARTIAL, StageContext, StageResult, pass_rates, read_prompts
from openr1.stages.model_input import model_folder
from openr1.stages.settings import GRPOStage
from openr1.stages.sft import training_result
from openr1.verify import prepare


def run(ctx: StageContext) -> StageResult:
    from openr1.rewards.registry import verifiers_of

    settings: GRPOStage = ctx.settings
    prompts = read_prompts(ctx.path("data"))
    for kind in PREFERENCE_TYPES:
        if kind in ctx.inputs:
            prompts += [p.of_type(kind) for p in read_prompts(ctx.path(kind))]
    if not prompts:
        raise UserError(f"{ctx.name}: {ctx.inputs['data'].ref} holds no prompt to learn from")
    graders = prepare([*(p.verifier for p in prompts), *verifiers_of(settings.reward)])

    from openr1.rewards.compose import ComposedReward
    from openr1.train.grpo import run_grpo

    result = run_grpo(
        model_dir=model_folder(ctx),
        prompts=prompts,
        settings=settings,
        reward=ComposedReward(settings.reward),
        out=ctx.folder / PARTIAL / "model",
        work=ctx.folder,
        metrics=ctx.metrics,
        seed=settings.seed,
        progress=ctx.name,
        logs=ctx.logs,
        dev=read_prompts(ctx.path("dev")) if "dev" in ctx.inputs else None,
        pass_rates=pass_rates(ctx.path("data")) if settings.curriculum is not None else None,
        probe_prompts=read_prompts(ctx.path("probes")) if "probes" in ctx.inputs else None,
    )
    found = training_result(result, len(prompts))
    found.results |= graders
    return found
