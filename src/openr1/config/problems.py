"""Every problem of a recipe as a line: what pydantic finds, and what it cannot know."""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from openr1.config.fit import fit_problems
from openr1.config.vllm_fit import has_own_server
from openr1.engines.settings import OpenAISettings, VLLMSettings
from openr1.errors import did_you_mean
from openr1.evaluate.settings import ClaimSettings
from openr1.stages.settings import (
    BenchmarkStage,
    EvaluateStage,
    GenerateStage,
    GRPOStage,
    PromptsStage,
    PublishStage,
    SFTStage,
    StageSettings,
    name_problem,
)


def validation_lines(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """Pydantic's findings as `where.key: what; what to do`, unknown keys with near names."""
    return [_line(item, model, where) for item in error.errors()]


def _line(item: Any, model: type[BaseModel], where: str) -> str:
    loc, kind = list(item["loc"]), item["type"]
    path = _path(where, loc, model)
    if kind == "extra_forbidden" and loc[-1] == "algorithm" and where.startswith("stages."):
        return f"{path}: no such key; a preset is chosen as algorithm@{where}.train=NAME"
    if kind == "extra_forbidden":
        return f"{path}: no such key; {did_you_mean(str(loc[-1]), _fields_at(model, loc[:-1]))}"
    if kind == "missing":
        return f"{path}: has no value; set it"
    if kind in {"union_tag_invalid", "literal_error"}:
        expected = item.get("ctx", {}).get("expected_tags") or item.get("ctx", {}).get("expected", "")
        options = [e.strip(" '\"") for e in str(expected).replace(" or ", ",").split(",")]
        given = item.get("ctx", {}).get("tag", item.get("input"))
        key = item.get("ctx", {}).get("discriminator", "").strip("'")
        return f"{path}{'.' + key if key else ''}: {given!r} is not known; {did_you_mean(str(given), options)}"
    if kind == "union_tag_not_found":
        return f"{path}: says no {item['ctx']['discriminator']}; set it"
    if kind == "value_error":  # a sentence of ours, which says what it found
        return f"{path}: {str(item['ctx']['error']).replace('stages.<stage>', where)}"
    message = item["msg"][0].lower() + item["msg"][1:]
    return f"{path}: {message} (found {_short(item.get('input'))})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _path(where: str, loc: Iterable[Any], model: type[BaseModel]) -> str:
    """The dotted path as the user writes it: tags that pydantic puts in for unions are left out."""
    parts = [where] if where else []
    current: Any = model
    for item in loc:
        fields = _fields_of(current)
        if fields is None or item in fields or not isinstance(item, str):
            parts.append(str(item))
            current = _step(current, item)
        elif _variant(current, item) is not None:
            current = _variant(current, item)
        else:
            parts.append(str(item))
            current = None
    return ".".join(parts)


def _fields_at(model: type[BaseModel], loc: Iterable[Any]) -> list[str]:
    """The keys known at `loc`, whatever unions lie on the way."""
    current: Any = model
    for item in loc:
        variant = _variant(current, item)
        current = variant if variant is not None else _step(current, item)
    return sorted(_fields_of(current) or {})


def _fields_of(annotation: Any) -> dict[str, Any] | None:
    models = _models(annotation)
    if not models:
        return None
    return {name: f for m in models for name, f in m.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The settings types that an annotation may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [m for a in get_args(annotation) for m in _models(a)]
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _models(get_args(annotation)[0])
    return []


def _variant(annotation: Any, tag: Any) -> type[BaseModel] | None:
    """The member of a union whose discriminating literal is `tag`."""
    models = _models(annotation)
    if len(models) < 2:
        return None
    for model in models:
        for field in model.model_fields.values():
            if tag in get_args(field.annotation):
                return model
    return None


def _step(annotation: Any, item: Any) -> Any:
    fields = _fields_of(annotation)
    if fields is not None:
        return fields[item].annotation if item in fields else None
    for a in (annotation, *get_args(annotation)):
        if get_origin(a) is dict:
            return get_args(a)[1]
        if get_origin(a) in (list, tuple):
            return get_args(a)[0]
    return None


def without_unknown(block: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """A copy of a stage's block without the keys that pydantic does not know, so that the rest can be judged too."""
    block = copy.deepcopy(block)
    for item in error.errors():
        if item["type"] != "extra_forbidden":
            continue
        at: Any = block
        for step in item["loc"][:-1]:  # tags that pydantic puts in for unions are no keys
            if (isinstance(at, dict) and step in at) or (isinstance(at, list) and isinstance(step, int)):
                at = at[step]  # type: ignore[index]
        if isinstance(at, dict):
            at.pop(item["loc"][-1], None)
    return block


def block_problems(kind: str, block: dict[str, Any], where: str) -> list[str]:
    """What can be told of `train` and `reward` in a stage that is wrong elsewhere."""
    from openr1.rewards.check import problems as reward_problems
    from openr1.rewards.settings import RewardSettings
    from openr1.train.check import train_problems

    out: list[str] = []
    train = block.get("train")
    if kind in ("sft", "grpo") and isinstance(train, dict):
        out += train_problems("sft" if kind == "sft" else "grpo", train, where=f"{where}.train")
    if kind == "grpo" and isinstance(block.get("reward"), dict):
        with suppress(ValidationError):  # those problems are found with the rest of the stage
            out += [f"{where}.{p}" for p in reward_problems(RewardSettings.model_validate(block["reward"]))]
    return out


def stage_problems(stages: Mapping[str, StageSettings]) -> list[str]:
    """What the rooms know of their own settings: TRL's fields and batch arithmetic, rewards, models."""
    from openr1.rewards.check import problems as reward_problems
    from openr1.tasks.splits import split_problems
    from openr1.train.check import train_problems

    out: list[str] = []
    for name, settings in stages.items():
        where = f"stages.{name}"
        if isinstance(settings, SFTStage | GRPOStage):
            out += train_problems(settings.kind, settings.train, settings.world_size, where=f"{where}.train")
            out += [f"{where}.parallel: {p}" for p in _parallel_problems(settings)]
        if isinstance(settings, GRPOStage):
            out += [f"{where}.{p}" for p in reward_problems(settings.reward)]
        if isinstance(settings, SFTStage) and settings.stop_at is not None and "dev" not in settings.inputs:
            out.append(f"{where}.stop_at: needs prompts to measure on; add inputs.dev")
        if isinstance(settings, SFTStage | GRPOStage) and settings.best is not None and "dev" not in settings.inputs:
            out.append(f"{where}.best: needs prompts to measure on; add inputs.dev")
        if isinstance(settings, GRPOStage) and settings.probes is not None and "probes" not in settings.inputs:
            out.append(f"{where}.probes: needs prompts to ask; add inputs.probes")
        out += _model_problems(where, settings)
        out += [f"{where}.{p}" for p in _generation_problems(settings)]
        out += [f"{where}.{p}" for p in fit_problems(stages, name)]
        if settings.resources.shards > 1 and not isinstance(settings, GenerateStage):
            out.append(f"{where}.resources.shards: a {settings.kind} stage has none, only generate has; leave it out")
        if isinstance(settings, PublishStage):
            out += [f"{where}.{p}" for p in _publish_problems(stages, settings)]
        if isinstance(settings, PromptsStage):
            out += [f"{where}.{p}" for p in split_problems(settings.task, settings.splits)]
            out += [f"{where}.splits: {wrong}" for split in settings.splits if (wrong := name_problem(split))]
            if "dropped" in settings.splits:
                out.append(f"{where}.splits.dropped: `dropped` is the name of the rows set aside; choose another")
    return out


def _publish_problems(stages: Mapping[str, StageSettings], settings: PublishStage) -> list[str]:
    """What a publication cannot be; inputs that lead nowhere are found with the graph."""
    holds = {}
    for name, ref in settings.inputs.items():
        source, _, output = ref.partition("/")
        holds[name] = stages[source].outputs().get(output, "") if source in stages else ""
    if "" in holds.values():
        return []
    try:
        ask = settings.publication(holds)
    except ValueError as e:
        return [str(e)]
    return [] if settings.repo is None else ask.problems(dashes="")


def _parallel_problems(settings: SFTStage | GRPOStage) -> Iterator[str]:
    """What `parallel` says against the stage's resources, and against what only a whole model can do."""
    parallel, count = settings.parallel, settings.world_size
    has = settings.training_gpus
    if parallel.kind == "ddp" and count == 1:
        yield "ddp on one process is single; set parallel.processes, or resources.gpus"
    served, nodes = has_own_server(settings), settings.resources.nodes
    if has and parallel.kind != "single" and count != has and not (served and nodes == 1):  # vllm_fit counts those
        there = (
            f"{has} GPUs beside the server's" if served else f"resources of {nodes} x {settings.resources.gpus} GPUs"
        )
        yield f"{count} processes, and {there}; leave parallel.processes out, or make them equal"
    if parallel.kind in ("zero3", "fsdp2"):
        for name in ("stop_at", "best", "probes"):
            if getattr(settings, name, None) is not None:
                yield f"{name} asks a whole model, {parallel.kind} spreads it; use a stage of kind evaluate, or zero2"


def _model_problems(where: str, settings: StageSettings) -> list[str]:
    if not hasattr(settings, "model"):
        return []
    engine = getattr(settings, "engine", None)
    if settings.model is None and "model" not in settings.inputs and isinstance(engine, OpenAISettings):
        if engine.api == "completions":  # the prompt is rendered here
            return [f"{where}.engine.api: completions needs the model's tokenizer; set `model` to a source"]
        return []
    if settings.model is None and "model" not in settings.inputs:
        return [f"{where}: has no model; set inputs.model to a stage's output or `model` to a source"]
    if settings.model is not None and "model" in settings.inputs:
        return [f"{where}: has two models, inputs.model and `model`; remove one"]
    return []


def _generation_problems(settings: StageSettings) -> Iterator[str]:
    """What the keys of engine and generation say against each other."""
    if not isinstance(settings, GenerateStage | EvaluateStage | BenchmarkStage):
        return
    engine, has = settings.engine, settings.resources.nodes * settings.resources.gpus
    if isinstance(engine, VLLMSettings) and has:
        wants = engine.tensor_parallel * engine.pipeline_parallel * engine.data_parallel
        if wants > has:
            yield (
                f"engine: tensor_parallel {engine.tensor_parallel} x pipeline_parallel {engine.pipeline_parallel} x "
                f"data_parallel {engine.data_parallel} take {wants} GPUs, resources ask for {has}; "
                "make resources.nodes x resources.gpus as many"
            )
    if isinstance(engine, OpenAISettings):
        for url in engine.base_url:
            if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
                yield f"engine.base_url: {url!r} is no address; write http://HOST:PORT/v1"
    if not isinstance(settings, GenerateStage):
        return
    if settings.early_stop is not None and settings.early_stop.correct > settings.k:
        yield f"early_stop.correct: {settings.early_stop.correct} is more than k, {settings.k}; lower it, or raise k"
    if settings.sampling.temperature == 0 and settings.k > 1:
        yield f"sampling.temperature: 0 gives {settings.k} times the same completion; raise it, or set k to 1"
    if settings.chat_template is not None and settings.model is not None:
        yield "chat_template: the stage has a `model` block; set model.chat_template"
    elif settings.chat_template is not None and isinstance(engine, OpenAISettings) and engine.api == "chat":
        yield "chat_template: a chat endpoint applies its own; leave it out, or set engine.api to completions"


def measured_models(stages: Mapping[str, StageSettings]) -> dict[str, EvaluateStage]:
    """Every model that an evaluate stage measures, by its name in the report."""
    found: dict[str, EvaluateStage] = {}
    for stage, settings in stages.items():
        if isinstance(settings, EvaluateStage):
            source = settings.inputs.get("model", "").partition("/")[0]
            name = settings.name or source or (settings.model.source if settings.model else stage)
            found[name if name not in found else stage] = settings
    return found


def claim_problems(claims: Sequence[ClaimSettings], stages: Mapping[str, StageSettings]) -> Iterator[str]:
    """Claims about models that nothing measures, or about numbers that their evaluations do not make."""
    measured = measured_models(stages)
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        where = f"claims.{i}"
        if claim.id in seen:
            yield f"{where}.id: {claim.id!r} is there twice; give each claim an id of its own"
        seen.add(claim.id)
        if claim.higher == claim.lower:
            yield f"{where}: `higher` and `lower` are the same model; name two"
        for key in ("higher", "lower"):
            name = getattr(claim, key)
            if name not in measured:
                near = did_you_mean(name, measured)
                yield f"{where}.{key}: no evaluate stage measures a model named {name!r}; {near}"
            elif lacking := _lacking(measured[name], claim.metric):
                yield f"{where}.metric: {claim.metric} of {name} is not measured; {lacking} in its evaluate stage"


def _lacking(stage: EvaluateStage, metric: str) -> str | None:
    """What to set so that the metric is measured, or None."""
    needs: dict[str, tuple[bool, str]] = {
        "greedy": (stage.greedy, "set greedy: true"),
        "sampled": (stage.k > 0, "set k above 0"),
        "language": (stage.language is not None, "set language"),
        "reflection": (bool(stage.reflection_words), "set reflection_words"),
    }
    met, what = needs.get(metric, (True, ""))
    return None if met else what
