"""`openr1 fetch`: what a recipe needs from the Hub and from PyPI into the shared cache, names resolved to commits.

A job on a node without internet finds there what it asks for: the same names at the same commits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openr1.config.recipe import Recipe
from openr1.engines.settings import OpenAISettings
from openr1.errors import OpenR1Error, OutsideError, UserError
from openr1.log import logger
from openr1.manifest import write_json
from openr1.models.settings import ModelSettings
from openr1.models.source import parse_source, resolve
from openr1.stages.model_input import COMMIT
from openr1.stages.settings import BenchmarkStage, CurateStage, PromptsStage, StageSettings
from openr1.tasks.benchmarks import benchmark_files, own_files, sources_of
from openr1.tasks.definitions import load_benchmark
from openr1.tasks.settings import HubSettings

PINS = "pins.json"


@dataclass(frozen=True)
class Fetched:
    """One thing that a stage needs: a model, dataset or benchmark. The recipe names it by `source` and `revision`;
    `commit` is what the Hub says this is."""

    stage: str
    what: str
    source: str
    revision: str | None
    commit: str | None
    path: str | None


def fetch(recipe: Recipe) -> tuple[Recipe, list[Fetched]]:
    """Fetch all that the stages need; the recipe with the Hub's names pinned to commits, and what was fetched.

    Raises UserError and OutsideError with one line for everything that cannot be had.
    """
    stages: dict[str, StageSettings] = {}
    found: list[Fetched] = []
    problems: list[str] = []
    outside = False
    for name, settings in recipe.stages.items():
        try:
            stages[name], new = _stage(name, settings)
            found += new
        except OpenR1Error as e:
            outside = outside or isinstance(e, OutsideError)
            problems += [f"{name}: {line}" for line in str(e).splitlines()]
    if problems:
        raise OutsideError("\n".join(problems)) if outside else UserError(*problems)
    return recipe.model_copy(update={"stages": stages}), found


def _stage(name: str, settings: StageSettings) -> tuple[StageSettings, list[Fetched]]:
    """A stage's settings, pinned, and what was fetched for it."""
    found: list[Fetched] = []
    model = getattr(settings, "model", None)
    if isinstance(model, ModelSettings) and not _served_elsewhere(settings):
        model, new = _model(name, model, weights=not isinstance(getattr(settings, "engine", None), OpenAISettings))
        settings = settings.model_copy(update={"model": model})
        found += new
    if isinstance(settings, PromptsStage) and isinstance(settings.task, HubSettings):
        task, new = _dataset(name, settings.task, settings)
        settings = settings.model_copy(update={"task": task})
        found += new
    if isinstance(settings, CurateStage):
        found += _benchmarks(name, settings)
    if isinstance(settings, BenchmarkStage):
        new = _asked(name, settings)
        pins = {thing.source: thing.commit for thing in new if thing.commit not in (None, thing.revision)}
        settings = settings.model_copy(update={"revisions": {**settings.revisions, **pins}})
        found += new
    return settings, found


def _served_elsewhere(settings: StageSettings) -> bool:
    """Whether an endpoint has the model, and nothing of it is needed here."""
    engine = getattr(settings, "engine", None)
    return isinstance(engine, OpenAISettings) and engine.api == "chat"


def _model(name: str, model: ModelSettings, weights: bool) -> tuple[ModelSettings, list[Fetched]]:
    kind, source, revision = parse_source(model.source, model.revision)
    if kind in ("scratch", "path"):
        return model, []
    logger.info("%s: model %s", name, model.source)
    folder = resolve(model.source, model.revision, weights)
    commit = folder.name if kind == "hub" and COMMIT.fullmatch(folder.name) else None
    if commit is None or commit == revision:  # nothing that could move
        return model, [Fetched(name, "model", model.source, model.revision, commit, str(folder))]
    return _at_commit(model, commit), [Fetched(name, "model", model.source, model.revision, commit, str(folder))]


def _dataset(name: str, task: HubSettings, settings: PromptsStage) -> tuple[HubSettings, list[Fetched]]:
    from openr1.tasks.hub import open_hub, resolve_revision

    commit = resolve_revision(task)
    if commit is None:
        return task, []
    logger.info("%s: dataset %s", name, task.id)
    pinned = task.model_copy(update={"revision": commit})
    open_hub(pinned, list(dict.fromkeys(split.source for split in settings.splits.values())))
    return pinned, [Fetched(name, "dataset", task.id, task.revision, commit, None)]


def _benchmarks(name: str, settings: CurateStage) -> list[Fetched]:
    """The benchmarks that curation checks against; one that the Hub does not give is said to be missing, no more."""
    found = []
    for step in settings.curate.steps:
        for benchmark in getattr(step, "benchmarks", list)():
            paths = benchmark_files(benchmark) or _benchmark(name, benchmark)
            found += [Fetched(name, "benchmark", benchmark, None, None, str(path)) for path in paths]
    return found


def _asked(name: str, settings: BenchmarkStage) -> list[Fetched]:
    """The datasets of the benchmarks that are asked, each at its commit, or the files here that stand in for them."""
    from openr1.tasks.hub import download

    found = []
    for benchmark in settings.benchmarks:
        for key, source in sources_of(benchmark, settings.revisions).items():
            if own := own_files(key):
                found += [Fetched(name, "benchmark", key, source.revision, None, str(path)) for path in own]
                continue
            logger.info("%s: benchmark %s (%s)", name, key, source.id)
            folder = download(HubSettings(name="hub", id=source.id, revision=source.revision), source.files)
            found.append(Fetched(name, "benchmark", key, source.revision, folder.name, str(folder)))
    return found


def _benchmark(name: str, benchmark: str) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    source = load_benchmark(benchmark).source
    if source is None:
        return []
    try:
        snapshot_download(source.id, repo_type="dataset", revision=source.revision, allow_patterns=source.files)
    except GatedRepoError:
        logger.warning(
            "%s: benchmark %s is gated (%s); ask for access, or it is not checked", name, benchmark, source.id
        )
    except (HfHubHTTPError, OSError) as e:
        raise OutsideError(f"benchmark {benchmark}: the Hub fails ({str(e).splitlines()[0]}); try again") from e
    return benchmark_files(benchmark)


# ------------------------------------------------------------------------------------------------------------- pins
def save_pins(folder: Path, found: Sequence[Fetched]) -> None:
    """Keep which commit each name stood for, so that the run stays with it."""
    new = [asdict(thing) for thing in found if thing.commit not in (None, thing.revision)]
    if new:
        write_json(folder / PINS, {"pins": [*_pins(folder), *new]})


def _pins(folder: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads((folder / PINS).read_text(encoding="utf-8"))["pins"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as e:
        raise UserError(f"{folder / PINS}: not readable ({e}); remove it, and names are looked up again") from e


def with_pins(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the commits that an earlier submit of the run found for the same names."""
    pins = {(p["stage"], p["what"], p["source"], p["revision"]): p["commit"] for p in _pins(folder)}
    stages = dict(recipe.stages)
    for name, settings in recipe.stages.items():
        model, task = getattr(settings, "model", None), getattr(settings, "task", None)
        if isinstance(model, ModelSettings) and (at := pins.get((name, "model", model.source, model.revision))):
            settings = settings.model_copy(update={"model": _at_commit(model, at)})
        if isinstance(task, HubSettings) and (at := pins.get((name, "dataset", task.id, task.revision))):
            settings = settings.model_copy(update={"task": task.model_copy(update={"revision": at})})
        if isinstance(settings, BenchmarkStage):
            asked = {k: s for b in settings.benchmarks for k, s in sources_of(b, settings.revisions).items()}
            at_commits = {k: pins.get((name, "benchmark", k, s.revision)) for k, s in asked.items()}
            known = {k: at for k, at in at_commits.items() if at is not None}
            settings = settings.model_copy(update={"revisions": {**settings.revisions, **known}})
        stages[name] = settings
    return recipe.model_copy(update={"stages": stages})


def _at_commit(model: ModelSettings, commit: str) -> ModelSettings:
    """The model at a commit, which hub:ID@main would contradict."""
    source = model.source.partition("@")[0] if not model.source.endswith(commit) else model.source
    return model.model_copy(update={"source": source, "revision": commit if "@" not in source else None})
