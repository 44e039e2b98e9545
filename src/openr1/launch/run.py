"""`openr1 run`: the run's folder, the plan, the execution and the report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openr1.config.recipe import RUN_YAML, Recipe, load_run_yaml, save_run_yaml
from openr1.errors import OutsideError, UserError
from openr1.launch.capacity import Capacity, capacity
from openr1.launch.local import LocalRun
from openr1.launch.plan import Step, make_plan
from openr1.launch.publishing import ask_hub
from openr1.launch.shard_plan import make_shard_plan
from openr1.launch.shards import active_shards, in_use, shard_folder
from openr1.launch.status import run_path
from openr1.log import logger
from openr1.manifest import load_manifest
from openr1.report import build_report
from openr1.store import Shard

LEAST_FREE_BYTES = 200 * 1024**2


def run_folder(recipe: Recipe) -> Path:
    """Where a run lies: under the runs folder, or where its name, a path, says."""
    return run_path(recipe.run)


def run_recipe(recipe: Recipe, only: Sequence[str] = (), rerun: Sequence[str] = ()) -> dict[str, Any]:
    """Run what is unfinished of a recipe here, and return the report's JSON.

    Raises UserError for a plan that is refused, StageFailed for a stage that fails; the report is written in any case.
    """
    folder = run_folder(recipe)
    check_folder(recipe, folder)
    steps = make_plan(recipe, folder, only, rerun)
    _refuse_active_shards(folder, steps)
    _check_site(recipe, steps, folder)
    if todo := [s.stage for s in steps if s.action != "skip"]:
        ask_hub(recipe, todo)
    _check_disk(folder)
    save_run_yaml(recipe, folder)
    for line in plan_lines(steps):
        logger.info("%s", line)
    try:
        LocalRun(recipe, folder, steps).run()
    finally:
        report = build_report(folder)
    logger.info("report: %s", folder / "report.html")
    return report


def _check_site(recipe: Recipe, steps: Sequence[Step], folder: Path) -> None:
    """Refuse what this machine has not; an estimate of memory or disk that says too little is only a warning."""
    if recipe.cluster.kind != "local":
        raise UserError(
            f"cluster={recipe.cluster.name} is a Slurm site, and `openr1 run` runs on this machine; say cluster=local "
            "here or on a node of it"
        )
    todo = [s.stage for s in steps if s.action != "skip"]
    found = capacity(recipe, folder, todo) if todo else Capacity()
    if found.devices:
        raise UserError(*found.devices)
    for line in found.problems:
        logger.warning("%s", line)


def run_shard(recipe: Recipe, only: Sequence[str], rerun: Sequence[str], shard: Shard) -> dict[str, Any]:
    """Make one shard of generate stages here, and return what it did.

    Nothing of the run but the shard's own folders is written, so that N tasks can do this at once; each reads its own
    `run.yaml`, so that they may differ in what does not decide the completions (an endpoint's address).
    """
    folder = run_folder(recipe)
    check_folder(recipe, folder)
    steps = make_shard_plan(recipe, folder, only, rerun, shard)
    _check_site(recipe, steps, folder)
    _check_disk(folder)
    places = [shard_folder(folder / step.stage, shard) for step in steps]
    for place in places:
        save_run_yaml(recipe, place)
    for line in plan_lines(steps):
        logger.info("%s", line)
    LocalRun(recipe, folder, steps, settings_from=places[0]).run()
    done = {step.stage: load_manifest(place) for step, place in zip(steps, places, strict=True)}
    stages = {
        name: {"counts": m.counts, "tokens": m.tokens, "seconds": m.total_seconds} for name, m in done.items() if m
    }
    return {"run": folder.name, "recipe": recipe.recipe, "shard": str(shard), "stages": stages}


def plan_lines(steps: Sequence[Step]) -> list[str]:
    """The plan as a person reads it before anything starts."""
    width = max((len(s.stage) for s in steps), default=0)
    words = {"again": "run", "after": "wait"}
    aside = {True: "; the old output is kept aside", False: ""}
    return [f"  {s.stage:<{width}}  {words.get(s.action, s.action):<6}  {s.why}{aside[s.aside]}" for s in steps]


def check_folder(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder that belongs to another recipe, and a place where no folder can be."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"{there}: is a file, and a run needs a folder there; choose another run=NAME or OPENR1_RUNS")
    if not (folder / RUN_YAML).exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: exists and is no run of openr1; choose another run=NAME")
        return
    other = load_run_yaml(folder)
    if other.recipe == recipe.recipe:
        return
    mine, theirs = set(recipe.stages), set(other.stages)
    parts = [f"recipe {other.recipe!r}, not {recipe.recipe!r}"]
    parts += [f"only there: {', '.join(sorted(theirs - mine))}"] if theirs - mine else []
    parts += [f"only here: {', '.join(sorted(mine - theirs))}"] if mine - theirs else []
    raise UserError(f"{folder}: belongs to {'; '.join(parts)}; choose another run=NAME")


def _refuse_active_shards(folder: Path, steps: Sequence[Step]) -> None:
    busy = {s.stage: active_shards(folder, s.stage) for s in steps if s.action != "skip"}
    problems = [f"{name}: {in_use(folder, name, active)}" for name, active in busy.items() if active]
    if problems:
        raise UserError(*problems)


def _check_disk(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise OutsideError(f"{folder}: cannot be made ({e.strerror}); set OPENR1_RUNS to a place you may write") from e
    if free < LEAST_FREE_BYTES:
        raise OutsideError(f"{folder}: only {free // 1024**2} MB are free; a run needs at least 200 MB")
