"""The plan of a run: for every stage skip, resume, run, grow or refuse, and why, before anything starts.

A stage's key is its own identity (kind, code version, settings that decide its output, the content of a task's files)
and the content hashes of what it reads. Its own settings changed: refused, unless `rerun` names it. Only its inputs
changed, because a stage before it ran again or grew: it runs again, and the old output is kept aside. Growth takes no
rows away and does not mix verdicts of two versions of a verifier.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from openr1.config.graph import upstream
from openr1.config.recipe import Recipe
from openr1.errors import UserError, did_you_mean
from openr1.launch.key import changed_inputs, file_problems, growth_of, identity_of, input_hashes, task_files
from openr1.launch.shards import begun, most_samples
from openr1.manifest import Manifest, differences, load_manifest
from openr1.stages.base import other_versions
from openr1.stages.settings import KINDS, GenerateStage, StageSettings

Action = Literal["skip", "run", "resume", "grow", "again", "after", "refuse"]

# what a stage keeps while it works: a killed attempt goes on from these
DURABLE = ("store", "rollouts", "checkpoint-*")


@dataclass(frozen=True)
class Step:
    """What will happen to one stage. `aside`: its present output moves to `<stage>.old-N` first. `shard`: i/N where
    only that part of a generate stage is asked for."""

    stage: str
    action: Action
    why: str
    aside: bool = False
    shard: str | None = None


def make_plan(recipe: Recipe, folder: Path, only: Sequence[str] = (), rerun: Sequence[str] = ()) -> list[Step]:
    """One step for every stage that is asked for, in the order to run; raises UserError with all problems."""
    order = recipe.order()
    problems = name_problems(recipe, only, rerun)
    if problems:
        raise UserError(*problems)
    steps: dict[str, Step] = {}
    for name in order:
        if only and name not in only:
            continue
        if why := recipe.stages[name].off(name):
            problems += [f"{name}: there is nothing to run again: it is {why}"] if name in rerun else []
            steps[name] = Step(name, "skip", why)
            continue
        missing = [u for u in upstream(recipe.stages[name]) if not _available(folder, u, steps)]
        if missing:
            problems.append(f"{name}: needs {', '.join(missing)}, not made yet; add it to stages=[…]")
            continue
        steps[name] = _step(recipe, folder, name, steps, rerun)
    problems += [f"{s.stage}: {s.why}" for s in steps.values() if s.action == "refuse"]
    if problems:
        raise UserError(*problems)
    return list(steps.values())


def name_problems(recipe: Recipe, only: Sequence[str], rerun: Sequence[str]) -> list[str]:
    """Stages asked for that the recipe does not have, or that are to run again and are left out."""
    order = recipe.order()
    problems = [f"{name}: no such stage; {did_you_mean(name, order)}" for name in (*only, *rerun) if name not in order]
    if only:
        problems += [
            f"rerun=[{name}]: {name} is not among stages=[{','.join(only)}]; add it there, or leave stages=[…] out"
            for name in rerun
            if name in order and name not in only
        ]
    return problems


def _available(folder: Path, name: str, steps: Mapping[str, Step]) -> bool:
    if name in steps:
        return True
    manifest = load_manifest(folder / name)
    return manifest is not None and manifest.status == "done"


def _step(recipe: Recipe, folder: Path, name: str, steps: Mapping[str, Step], rerun: Sequence[str]) -> Step:
    settings = recipe.stages[name]
    manifest = begun(folder / name)
    finished = manifest is not None and manifest.status == "done" and name not in rerun
    if wrong := file_problems(settings, finished):
        return Step(name, "refuse", "; ".join(wrong))
    if manifest is None:
        return Step(name, "run", "not run yet")
    if name in rerun:
        return Step(name, "run", "asked for by rerun", aside=True)
    changed = changes(manifest, settings)
    if changed:
        if manifest.status != "done" and not durable(folder / name):
            return Step(name, "run", "settings changed, nothing had been made", aside=True)
        what = "; ".join(changed[:6])
        return Step(name, "refuse", f"has output of other settings ({what}); add rerun=[{name}], or use another run=")
    moving = [u for u in upstream(settings) if u in steps and steps[u].action != "skip"]
    if moving:
        only_grows = all(settings.grows(n) for n, ref in settings.inputs.items() if ref.split("/")[0] in moving)
        refusal = _refusal(settings, manifest, folder / name) if only_grows else None
        return refusal or Step(name, "after", f"decided when {', '.join(moving)} is done")
    hashes = input_hashes(recipe, folder, name)
    if hashes is None:
        return Step(name, "after", "decided when its inputs are there")
    return settled(settings, manifest, hashes, folder / name)


def settled(settings: StageSettings, manifest: Manifest, hashes: Mapping[str, str], folder: Path) -> Step:
    """The step of a stage whose own settings are unchanged and whose inputs lie there."""
    name = manifest.stage
    if changed := changed_inputs(settings, manifest, hashes):
        return Step(name, "again", f"its input changed: {', '.join(changed)}", aside=True)
    refusal = _refusal(settings, manifest, folder)
    if refusal is not None:
        return refusal
    if manifest.status != "done":
        left = durable(folder)
        return Step(name, "resume" if left else "run", f"{_ended(manifest)}; {_state(left)}")
    grown = differences(manifest.growth, growth_of(settings, hashes))
    if grown:
        return Step(name, "grow", _grown(grown))
    return Step(name, "skip", "done")


def changes(manifest: Manifest, settings: StageSettings) -> list[str]:
    """What of a stage's own identity differs from its manifest's, files by their place and short hashes."""
    new, old = identity_of(settings), _identity_before(manifest)
    files, before = new.get("files", {}), old.get("files", {})
    said = [
        f"{task_files(settings)[name]} has changed (sha256 {before[name][:12]} -> {files[name][:12]})"
        for name in files
        if before.get(name) and before[name] != files[name]
    ]
    same = {**new, "files": {n: before[n] if before.get(n) else h for n, h in files.items()}} if files else new
    return said + differences(old, same)


def _identity_before(manifest: Manifest) -> dict[str, Any]:
    """A manifest's identity as today's settings types tell it: a key that came later has its default."""
    try:
        before = KINDS[manifest.kind].model_validate(manifest.settings)
    except (KeyError, ValidationError):
        return manifest.identity
    settings = json.loads(json.dumps(before.identity(), default=str))
    return {**manifest.identity, "settings": settings}


def _refusal(settings: StageSettings, manifest: Manifest, folder: Path) -> Step | None:
    """Why the output that is there cannot be kept and added to: it would shrink, or mix two versions of a verifier."""
    name, why = manifest.stage, ""
    k = manifest.growth.get("k", 0) if manifest.status == "done" or durable(folder) else 0
    k = max(k, most_samples(folder))
    if isinstance(settings, GenerateStage) and settings.k < k:
        why = f"k: {k} -> {settings.k} would take rows away; keep k, or rerun=[{name}]"
    versions = other_versions(_graders(manifest))
    if versions:
        why = f"{versions}; rerun=[{name}]"
    return Step(name, "refuse", why) if why else None


def _graders(manifest: Manifest) -> list[tuple[str, str]]:
    """Name and version of every verifier that graded a stage's output, as its results name them."""
    found: list[tuple[str, str]] = []
    for text in manifest.results.get("verifiers") or []:  # of a verify stage: "math 1"
        name, _, version = str(text).rpartition(" ")
        found.append((name, version))
    for text in str(manifest.results.get("verifier") or "").split(", "):  # of an evaluate stage: "math/1, exact/1"
        name, _, version = text.rpartition("/")
        found.append((name, version))
    return [(name, version) for name, version in found if name]


def durable(folder: Path) -> list[Path]:
    """What a killed attempt left to go on from."""
    return sorted(p for pattern in DURABLE for p in folder.glob(pattern))


def _ended(manifest: Manifest) -> str:
    if manifest.shards and manifest.attempt == 0:
        done = sum(s["status"] == "done" for s in manifest.shards)
        return f"{len(manifest.shards)} shards have begun it, {done} of them done"
    if manifest.status == "failed":
        return f"attempt {manifest.attempt} failed ({manifest.exit.get('reason', 'unknown')})"
    return f"attempt {manifest.attempt} was interrupted"


def _state(left: Sequence[Path]) -> str:
    checkpoints = [int(p.name.split("-")[1]) for p in left if p.name.startswith("checkpoint-")]
    if checkpoints:
        return f"goes on from checkpoint-{max(checkpoints)}"
    return "goes on from what its store holds" if left else "nothing was kept, it starts from the beginning"


def _grown(changes: Sequence[str]) -> str:
    words = [c for c in changes if not c.startswith("inputs.")]
    rows = [c.partition(":")[0].removeprefix("inputs.") for c in changes if c.startswith("inputs.")]
    return "; ".join(words + [f"input {r} changed" for r in rows]) + ": only what is missing is made"
