"""What a stage asks of its model that the model cannot give: room, heads to share out, adapters, golds to grade by.

All of it follows from the facts that the recipe states; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from openr1.config.vllm_fit import vllm_problems
from openr1.engines.settings import VLLMSettings
from openr1.models.settings import ModelSettings
from openr1.records import PREFERENCE_TYPES, PROMPT_TYPES
from openr1.rewards.settings import GRADED
from openr1.stages.settings import (
    BenchmarkStage,
    EvaluateStage,
    ExtendContextStage,
    GenerateStage,
    GRPOStage,
    PromptsStage,
    SFTStage,
    StageSettings,
    VerifyStage,
)
from openr1.tasks.settings import RowsTask
from openr1.train.fields import default
from openr1.train.vllm_rollouts import mode_of


def model_of(stages: Mapping[str, StageSettings], name: str) -> ModelSettings | None:
    """The model that a stage starts from, as the stage that brings it in states it, with a context extended since."""
    seen: set[str] = set()
    context: int | None = None
    while name in stages and name not in seen:
        seen.add(name)
        settings = stages[name]
        if isinstance(settings, ExtendContextStage) and len(seen) > 1:
            context = context or settings.context
        if "model" not in settings.inputs:
            model: ModelSettings | None = getattr(settings, "model", None)
            return model.model_copy(update={"context": context}) if model is not None and context else model
        name = settings.inputs["model"].partition("/")[0]
    return None


def fit_problems(stages: Mapping[str, StageSettings], name: str) -> Iterator[str]:
    """Lines without the stage's name in front."""
    settings, model = stages[name], model_of(stages, name)
    yield from _length_problems(settings, model.context if model else None)
    yield from _head_problems(settings, model)
    if isinstance(settings, GRPOStage):
        yield from vllm_problems(settings)
    yield from _lora_problems(settings, model)
    yield from _gold_problems(stages, name)
    yield from _part_problems(settings)
    yield from _schedule_problems(stages, name)
    if isinstance(settings, ExtendContextStage) and model is not None and settings.context < (model.context or 0):
        yield f"context: {settings.context} is less than the model's own {model.context}; leave the stage out"


def _length_problems(settings: StageSettings, context: int | None) -> Iterator[str]:
    """Numbers of tokens that the context of the model, or of the engine, has no room for."""
    own = getattr(getattr(settings, "engine", None), "max_model_len", None)
    if own is not None and context is not None and own > context:
        yield f"engine.max_model_len: {own} is more than the model's context of {context}; lower it to {context}"
    elif own is not None:
        context = own
    if context is None:
        return
    new: dict[str, Any] = {}
    if isinstance(settings, SFTStage | GRPOStage):
        new["best.max_new_tokens"] = settings.best and settings.best.max_new_tokens
    if isinstance(settings, SFTStage):
        longest = settings.train.get("max_length")
        if isinstance(longest, int) and longest > context:
            yield f"train.max_length: {longest} is more than the model's context of {context}; lower it to {context}"
        new["stop_at.max_new_tokens"] = settings.stop_at and settings.stop_at.max_new_tokens
    elif isinstance(settings, GRPOStage):
        new["train.max_completion_length"] = settings.train.get(
            "max_completion_length", default("grpo", "max_completion_length")
        )
        for i, change in enumerate(settings.length_schedule):
            new[f"length_schedule.{i}.max_completion_length"] = change.max_completion_length
        new["probes.max_new_tokens"] = settings.probes and settings.probes.max_new_tokens
        longest = settings.train.get("vllm_max_model_length")
        if isinstance(longest, int) and longest > context:
            yield f"train.vllm_max_model_length: {longest} is more than the model's context of {context}; lower it"
        elif isinstance(longest, int) and longest <= (settings.longest() or 0):
            yield (
                f"train.vllm_max_model_length: {longest} leaves no room for a prompt beside completions of "
                f"{settings.longest()} tokens; raise it"
            )
    elif isinstance(settings, GenerateStage | EvaluateStage):
        new["sampling.max_new_tokens"] = settings.sampling.max_new_tokens
    elif isinstance(settings, BenchmarkStage):
        for name in settings.benchmarks:
            new[f"max_new_tokens of {name}"] = settings.sampling_of(name).max_new_tokens
    for key, tokens in new.items():
        if isinstance(tokens, int) and tokens >= context:
            yield f"{key}: {tokens} leaves no room for a prompt in the model's context of {context}; lower it"


def _head_problems(settings: StageSettings, model: ModelSettings | None) -> Iterator[str]:
    """Tensor parallelism shares out whole attention heads, over the GPUs that there are."""
    engine = getattr(settings, "engine", None)
    if isinstance(engine, VLLMSettings):
        split, where = engine.tensor_parallel, "engine.tensor_parallel"
    elif isinstance(settings, GRPOStage) and settings.train.get("use_vllm"):
        found = settings.train.get("vllm_tensor_parallel_size")
        split, where = (found if isinstance(found, int) else 1), "train.vllm_tensor_parallel_size"
        if split > 0 and settings.world_size % split and mode_of(settings.train) == "colocate":
            yield f"{where}: {split} does not divide the {settings.world_size} processes"
    else:
        return
    if model is not None and model.heads and split > 0 and model.heads % split:
        near = [n for n in range(1, model.heads + 1) if model.heads % n == 0 and n <= 8]
        yield f"{where}: {split} does not divide the model's {model.heads} heads; choose {' or '.join(map(str, near))}"


def _lora_problems(settings: StageSettings, model: ModelSettings | None) -> Iterator[str]:
    lora = getattr(settings, "lora", None)
    if lora is None or not isinstance(settings, SFTStage | GRPOStage):
        return
    experts = {"all-linear", "gate_proj", "up_proj", "down_proj"} & set(lora.target_modules)
    if experts and model is not None and model.architecture == "qwen3_moe":
        yield (
            f"lora.target_modules: {', '.join(sorted(experts))}: the experts of qwen3_moe are no linear maps that an "
            "adapter can be put on; choose of q_proj, k_proj, v_proj, o_proj"
        )
    if settings.train.get("sync_ref_model"):
        yield "lora: sync_ref_model needs a reference model, adapters have none; set train.sync_ref_model false"
    if settings.parallel.kind in ("zero3", "fsdp2"):
        yield f"lora: adapters are merged into a whole model, {settings.parallel.kind} spreads it; use ddp or zero2"
    if settings.train.get("use_liger_kernel") and isinstance(settings, GRPOStage):
        yield "lora: Liger's GRPO loss reads the head's weights and not its adapters; set use_liger_kernel false"


def _gold_problems(stages: Mapping[str, StageSettings], name: str) -> Iterator[str]:
    """What grades needs golds: rows that were mapped without an answer have none."""
    settings = stages[name]
    parts: list[str] = []
    if isinstance(settings, GRPOStage):
        graded = [k for k, part in settings.reward.parts.items() if (part.function or k) in GRADED]
        parts = [k for k in graded if "reasoning" in (settings.reward.parts[k].types(k) or ())]
        what = f"reward part {' and '.join(parts)}" if parts else ""
    elif isinstance(settings, VerifyStage | EvaluateStage):
        what = f"a stage of kind {settings.kind}"
    else:
        return
    source = _prompts_of(stages, name)
    if source is None or not what:
        return
    task = getattr(stages[source], "task", None)
    if isinstance(task, RowsTask) and task.columns.answer is None and task.verifier is None:
        yield f"{what} needs an answer to grade by; name its column in stages.{source}.task.columns.answer"


def _part_problems(settings: StageSettings) -> Iterator[str]:
    """Types of prompts that no part of the reward is for, parts that no prompt is for, and parts that never begin."""
    if not isinstance(settings, GRPOStage) or "data" not in settings.inputs:
        return
    there = ["reasoning", *(kind for kind in PREFERENCE_TYPES if kind in settings.inputs)]
    for kind in PROMPT_TYPES:
        if kind in there and not settings.reward.parts_for(kind):
            source = "data" if kind == "reasoning" else kind
            yield (
                f"reward: no part is for the {kind} prompts of inputs.{source}, so all of them would be masked; add "
                "one, or name the type in a part's `prompts`"
            )
    last = settings.train.get("max_steps")
    for label, part in settings.reward.parts.items():
        types = part.types(label)
        if types is not None and not set(types) & set(there):
            able = " or ".join(f"inputs.{kind}" for kind in types if kind in PREFERENCE_TYPES)
            yield f"reward.parts.{label}: is for {' and '.join(types)} prompts, and there are none; connect {able}"
        if isinstance(last, int) and 0 < last < part.from_step:
            yield f"reward.parts.{label}.from_step: {part.from_step} comes after the last step, {last}; lower it"


def _schedule_problems(stages: Mapping[str, StageSettings], name: str) -> Iterator[str]:
    """A curriculum without pass rates, lengths that no step reaches, a reference that would not survive a resume."""
    settings = stages[name]
    if not isinstance(settings, GRPOStage):
        return
    source, _, output = settings.inputs.get("data", "").partition("/")
    if settings.curriculum is not None and source in stages and stages[source].outputs().get(output) != "rl":
        yield f"curriculum: needs measured pass rates, {source}/{output} has none; connect an `rl` output of curate"
    last = settings.train.get("max_steps")
    first, general = settings.general_from_step, set(PREFERENCE_TYPES) & set(settings.inputs)
    if first > 1 and not general:
        yield "general_from_step: no such prompts are there; connect inputs.general or inputs.harmlessness"
    if isinstance(last, int) and 0 < last < first:
        yield f"general_from_step: {first} comes after the last step, {last}; lower it"
    for i, change in enumerate(settings.length_schedule):
        if isinstance(last, int) and 0 < last < change.from_step:
            yield f"length_schedule.{i}.from_step: {change.from_step} comes after the last step, {last}; lower it"
    if settings.train.get("sync_ref_model") and settings.parallel.kind == "fsdp2":
        yield "train.sync_ref_model: a refreshed reference is not kept across a resume with fsdp2; use zero3"


def _prompts_of(stages: Mapping[str, StageSettings], name: str) -> str | None:
    """The prompts stage that a stage's rows come from."""
    seen: set[str] = set()
    while name in stages and name not in seen:
        seen.add(name)
        if isinstance(stages[name], PromptsStage):
            return name
        name = stages[name].inputs.get("data", "").partition("/")[0]
    return None
