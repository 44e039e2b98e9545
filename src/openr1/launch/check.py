"""`openr1 check`: what settings and files can tell before anything starts, in seconds and without torch."""

from __future__ import annotations

from typing import Any

from openr1.config.recipe import Recipe
from openr1.engines.settings import OpenAISettings, VLLMSettings
from openr1.engines.vllm_program import as_flags, find_executable
from openr1.errors import OutsideError, UserError
from openr1.launch.capacity import capacity
from openr1.launch.check_data import Splits, check_training_data
from openr1.launch.key import file_problems
from openr1.launch.publishing import publications, publish_problems
from openr1.launch.status import run_path
from openr1.models.plain import here
from openr1.rewards.settings import ClassifierSettings
from openr1.stages.resources import Resources
from openr1.stages.settings import BenchmarkStage, CurateStage, GRPOStage, PromptsStage, SFTStage
from openr1.tasks.benchmarks import benchmark_files
from openr1.tasks.definitions import load_benchmark
from openr1.tasks.local import local_files
from openr1.tasks.settings import HubSettings, LocalSettings
from openr1.train.check import generation_batch
from openr1.train.fields import fields
from openr1.train.vllm_rollouts import mode_of, server_arguments


def check(recipe: Recipe, data: bool = False) -> dict[str, Any]:
    """Lines to print, problems, and what could not be checked from here. Settings are valid already."""
    lines = [f"{recipe.recipe}: {len(recipe.stages)} stages, settings are valid"]
    problems: list[str] = []
    not_checked: list[str] = []
    drawn: dict[str, Splits] = {}
    for name in recipe.order():
        settings = recipe.stages[name]
        lines.append(f"  {name:<20} {settings.kind:<14} {_inputs(settings.inputs)}")
        lines += [f"  {'':<20} {why}"] if (why := settings.off(name)) else []
        if isinstance(settings, GRPOStage):
            lines.append(f"  {'':<20} {_batch(settings)}")
            _rollouts(name, settings, lines, not_checked)
            not_checked += _scorers(name, settings)
        if isinstance(settings, SFTStage):
            lines.append(f"  {'':<20} {_sft_batch(settings)}")
        model, engine = getattr(settings, "model", None), getattr(settings, "engine", None)
        if isinstance(engine, OpenAISettings):
            not_checked.append(f"{name}: whether {', '.join(engine.base_url)} answers (openr1 run finds out)")
        elif model is not None and model.source != "scratch" and not here(model):
            not_checked.append(f"{name}: whether {model.source} is there (openr1 run finds out)")
        if isinstance(engine, VLLMSettings) and (idle := _idle(engine, settings.resources)):
            lines.append(f"  {'':<20} {idle}")
        if isinstance(engine, VLLMSettings) and engine.mode == "server" and recipe.cluster.kind == "local":
            not_checked += _vllm_missing(name, engine)
        if isinstance(settings, CurateStage):
            problems += [f"stages.{name}: {p}" for p in file_problems(settings)]
        if isinstance(settings, BenchmarkStage):
            not_checked += _benchmarks_missing(name, settings)
        if isinstance(settings, PromptsStage):
            _check_data(name, settings, data, drawn, lines, problems, not_checked)
        if data and isinstance(settings, SFTStage | GRPOStage):
            told = check_training_data(recipe, name, drawn)
            lines += told.lines
            problems += told.problems
            not_checked += told.not_checked
    problems += publish_problems(recipe)
    for name, ask in publications(recipe):
        not_checked.append(f"{name}: whether {ask.repo} may be written with this token (openr1 run asks first)")
    fits = capacity(recipe, run_path(recipe.run))
    lines += fits.lines()
    problems += fits.devices + fits.problems
    not_checked += fits.not_checked
    lines += [f"not checked: {what}" for what in not_checked]
    return {
        "recipe": recipe.recipe,
        "cluster": recipe.cluster.name,
        "lines": lines,
        "problems": problems,
        "not_checked": not_checked,
        "memory": fits.rows,
    }


def _inputs(inputs: dict[str, str]) -> str:
    return ", ".join(f"{name} <- {ref}" for name, ref in inputs.items())


def _idle(engine: VLLMSettings, resources: Resources) -> str:
    """Which of the GPUs that a stage asks for its vLLM leaves alone; "" where it takes them all."""
    one, has = engine.tensor_parallel * engine.pipeline_parallel, resources.nodes * resources.gpus
    used = one * engine.data_parallel
    if used >= has:
        return ""
    replicas = resources.nodes * (resources.gpus // one)
    more = f", engine.data_parallel {replicas} takes {replicas * one}" if replicas > engine.data_parallel else ""
    return f"vLLM takes {used} of {has} GPUs; {has - used} are idle{more}"


def _scorers(name: str, settings: GRPOStage) -> list[str]:
    """Preference models and judges, which nobody asks from here."""
    found = []
    for scorer in [part.scorer for part in settings.reward.parts.values() if part.scorer is not None]:
        if isinstance(scorer, ClassifierSettings):
            what = f"whether {scorer.source} is there, and its memory beside the model on every GPU"
        else:
            what = f"whether {scorer.url} answers"
        found.append(f"{name}: {what} (openr1 run finds out)")
    return list(dict.fromkeys(found))


def _vllm_missing(name: str, engine: VLLMSettings) -> list[str]:
    """Why no server can be started from here, as yet."""
    try:
        find_executable(engine.executable)
    except UserError as e:
        return [f"{name}: {e}"]
    return []


def _benchmarks_missing(name: str, settings: BenchmarkStage) -> list[str]:
    """The benchmarks whose questions are not on this machine; a run would ask the Hub for them."""
    wanted = {b: load_benchmark(b).source for b in settings.benchmarks}
    have = {b for b in settings.benchmarks if benchmark_files(b, settings.revisions)}
    missing = {b: source for b, source in wanted.items() if source is not None and b not in have}
    return [
        f"{name}: whether {source.id} can be had for {b}; it is not on this machine" for b, source in missing.items()
    ]


def _rollouts(name: str, settings: GRPOStage, lines: list[str], not_checked: list[str]) -> None:
    """Where vLLM draws, and what a server that another starts has to be started with."""
    mode, train = mode_of(settings.train), settings.train
    split = train.get("vllm_tensor_parallel_size") or 1
    if mode == "colocate":
        lines.append(f"  {'':<20} vLLM draws in the {settings.world_size} processes that train, {split} a model")
    elif mode == "server" and (url := train.get("vllm_server_base_url")):
        words = "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL " + " ".join(as_flags(server_arguments(True)))
        not_checked.append(f"{name}: whether {url} answers, serves the model, and was started with: {words}")
    elif mode == "server":
        lines.append(f"  {'':<20} a vLLM server that the stage starts draws, on {_place_of_server(settings)}")


def _place_of_server(settings: GRPOStage) -> str:
    """Where the stage's own vLLM server runs, and which GPUs of the node that it has to itself it leaves idle."""
    server, nodes, gpus = settings.own_server(), settings.resources.nodes, settings.resources.gpus
    if server is None or not gpus:
        return "the CPU, weights reach it through a file"
    if nodes == 1:
        return f"{server.gpus} GPUs of its own"
    where, idle = f"{server.gpus} of the {gpus} GPUs of the last node", gpus - server.gpus
    if not idle:
        return where
    replicas = gpus * server.data_parallel // server.gpus
    more = f", server.data_parallel {replicas} takes more" if replicas > server.data_parallel else ""
    return f"{where}; {idle} of them are idle{more}"


def _batch(settings: GRPOStage) -> str:
    """How many completions a generation asks for, and how many optimizer steps learn from them."""
    train = settings.train
    group, accumulation, iterations = (
        int(train[key] if train.get(key) is not None else fields("grpo")[key]["default"])
        for key in ("num_generations", "gradient_accumulation_steps", "num_iterations")
    )
    count = settings.world_size
    size, micro_steps = generation_batch(train, count)
    steps = micro_steps * iterations / accumulation
    on = "one process" if count == 1 else f"{count} processes"
    text = f"{size} completions a generation on {on} = {size // group} prompts x {group} samples"
    return f"{text}, for {steps:g} optimizer step{'' if steps == 1 else 's'}"


def _sft_batch(settings: SFTStage) -> str:
    """The rows of one optimizer step, as they come about."""
    rows, accumulation = (
        int(settings.train[key] if settings.train.get(key) is not None else fields("sft")[key]["default"])
        for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    count = settings.world_size
    terms = [f"{rows} a process", *([f"{count} processes"] if count > 1 else [])]
    terms += [f"{accumulation} accumulated"] if accumulation > 1 else []
    return f"{rows * count * accumulation} rows a step" + (f" = {' x '.join(terms)}" if len(terms) > 1 else "")


def _check_data(
    name: str,
    settings: PromptsStage,
    data: bool,
    drawn: dict[str, Splits],
    lines: list[str],
    problems: list[str],
    not_checked: list[str],
) -> None:
    if not data:
        if isinstance(settings.task, LocalSettings):
            files = [path for path in local_files(settings.task).values() if not path.is_file()]
            problems += [f"stages.{name}.task.path: {path}: no such file" for path in files]
        if isinstance(settings.task, HubSettings):
            not_checked.append(f"{name}: whether {settings.task.id} is there, its columns and its size (add --data)")
        else:
            not_checked.append(f"{name}: the data itself (add --data)")
        return
    from openr1.tasks import build_splits

    try:
        built = build_splits(settings.task, settings.splits, settings.seed)
    except UserError as e:
        problems += [f"stages.{name}: {p}" for p in e.problems]
        return
    except OutsideError as e:
        not_checked.append(f"{name}: the data; {e}")
        return
    drawn[name] = built.splits
    sizes = ", ".join(f"{split} {len(rows)}" for split, rows in built.splits.items())
    lines.append(f"  {'':<20} {sizes}; {len(built.dropped)} dropped")
    for dropped in built.dropped[:5]:
        lines.append(f"  {'':<20} dropped: {dropped.reason}: {dropped.example[:80]!r}")
