"""`openr1 evaluate model=runs/RUN/STAGE`: the checkpoints of a stage that trains, each as it appears.

Each evaluation is a run of its own, `<group>/checkpoint-N`, so that it resumes and compares like any other. A
checkpoint is linked into the group as soon as it is seen, because the stage deletes old ones while it goes on.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.launch.run import run_recipe
from openr1.launch.status import run_status
from openr1.launch.words import compose
from openr1.manifest import hash_json, load_manifest
from openr1.paths import runs_dir

logger = logging.getLogger("openr1")
POLL_S = 3.0
LAST = "model"
MODEL_FILES = re.compile(r".*\.(json|safetensors|jinja|model|txt)|merges\.txt|vocab\..*")
TRAINING_KINDS = ("sft", "grpo")


def training_stage(model: str) -> Path | None:
    """The folder of a stage that trains, where that is what `model=` names and not a model."""
    folder = Path(model)
    if not folder.is_dir() or (folder / "config.json").exists():
        return None
    manifest = load_manifest(folder)
    return folder if manifest is not None and manifest.kind in TRAINING_KINDS else None


def evaluate_checkpoints(stage: Path, words: Sequence[str]) -> dict[str, Any]:
    """Evaluate every checkpoint of the stage and in the end its model; while it trains, wait for the next one.

    Returns the document of the last one, with all of them under `checkpoints` by name.
    """
    others = [w for w in words if w.partition("=")[0] not in ("model", "run")]
    named = next((w.partition("=")[2] for w in words if w.startswith("run=")), None)
    group = Path(named) if named and "/" in named else runs_dir() / (named or _group_name(stage, others))
    done: dict[str, dict[str, Any]] = {}
    while True:
        at_work = _state(stage) == "running"
        found = _link_new(stage, group / "weights")
        for name in [n for n in found if n not in done]:
            done[name] = _evaluate(group / "weights" / name, f"{group}/{name}", f"{stage.name}/{name}", others)
            _link_new(stage, group / "weights")
        if not at_work and all(n in done for n in _link_new(stage, group / "weights")):
            break
        time.sleep(POLL_S)
    if not done:
        raise UserError(f"{stage}: has no checkpoint yet and does not run; train it first, or name a model's folder")
    order = sorted(done, key=_place)
    return done[order[-1]] | {"checkpoints": {name: done[name] for name in order}, "group": str(group)}


def _evaluate(weights: Path, run: str, called: str, words: Sequence[str]) -> dict[str, Any]:
    name = f"stages.evaluate.name={called}"
    recipe, _ = compose(["recipe=evaluate", f"model={weights}", f"run={run}", name, *words])
    logger.info("%s", weights.name)
    report = run_recipe(recipe)
    return {key: report.get(key) for key in ("model", "engine", "benchmarks", "run")}


def _group_name(stage: Path, words: Sequence[str]) -> str:
    """One group for a stage and the settings that decide answers."""
    recipe, _ = compose(["recipe=evaluate", f"model={stage}", "run=x", *words])
    decides = recipe.stages["evaluate"].identity()
    return f"evaluate-{stage.name}-{hash_json([str(stage.resolve()), decides])[:8]}"


def _state(stage: Path) -> str:
    """What the stage is doing."""
    stages, _ = run_status(stage.parent)
    return next((s.state for s in stages if s.stage == stage.name), "done")


def _link_new(stage: Path, weights: Path) -> list[str]:
    """Link checkpoints, and the finished model, that are not there yet; returns all that are, in order."""
    manifest = load_manifest(stage)
    sources = [p for p in stage.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    if manifest is not None and manifest.status == "done" and (stage / LAST).is_dir():
        sources.append(stage / LAST)
    for source in sources:
        if not (weights / source.name).exists() and (source / "config.json").exists():
            _link(source, weights / source.name)
    return sorted((p.name for p in weights.glob("*") if not p.name.startswith(".")), key=_place)


def _link(source: Path, target: Path) -> None:
    """The model's files of a checkpoint as hard links, copies where there can be none; whole or not at all."""
    aside = target.with_name(f".{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for file in source.iterdir():
            if not file.is_file() or not MODEL_FILES.fullmatch(file.name):
                continue
            try:
                os.link(file, aside / file.name)
            except OSError:
                shutil.copy2(file, aside / file.name)
    except FileNotFoundError:  # deleted by the stage meanwhile
        shutil.rmtree(aside, ignore_errors=True)
        return
    os.replace(aside, target)


def _place(name: str) -> int:
    """Where a checkpoint stands in the order; the finished model is last."""
    found = re.search(r"\d+$", name)
    return int(found.group()) if found else 1 << 62
