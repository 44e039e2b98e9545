"""The plan of a run: for every stage skip, resume, run, grow or refuse, and why, before anything starts.

A stage's key is its own identity (kind, code version, settings that decide its output) and the content hashes of what
it reads. Its own settings changed: refused, unless `rerun` names it. Only its inputs changed, because a stage before
it ran again or grew: it runs again, and the old output is kept aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openr1.config.graph import upstream
from openr1.config.recipe import Recipe
from openr1.errors import UserError, did_you_mean
from openr1.manifest import Manifest, differences, hash_json, load_manifest
from openr1.stages.settings import StageSettings

Action = Literal["skip", "run", "resume", "grow", "again", "after", "refuse"]

# what a stage keeps while it works: a killed attempt goes on from these
DURABLE = ("store", "rollouts", "checkpoint-*")


@dataclass(frozen=True)
class Step:
    """What will happen to one stage. `aside`: its present output moves to `<stage>.old-N` first."""

    stage: str
    action: Action
    why: str
    aside: bool = False


def identity_of(settings: StageSettings) -> dict[str, Any]:
    """What of a stage itself decides its output, as plain JSON."""
    import json

    raw = {"kind": settings.kind, "version": settings.version, "settings": settings.identity()}
    return json.loads(json.dumps(raw, default=str))


def growth_of(settings: StageSettings, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What only adds rows: growing settings, and inputs that may grow."""
    growing = {name: hashes[name] for name, spec in settings.INPUTS.items() if spec.growth and name in hashes}
    return settings.growth() | {"inputs": growing}


def fixed_inputs(settings: StageSettings, hashes: Mapping[str, str]) -> dict[str, str]:
    """Content hashes of the inputs that belong to the key."""
    return {n: h for n, h in sorted(hashes.items()) if not settings.INPUTS[n].growth}


def key_of(settings: StageSettings, hashes: Mapping[str, str]) -> str:
    """The key of a stage: equal keys, equal output (up to growth)."""
    return hash_json({"identity": identity_of(settings), "inputs": fixed_inputs(settings, hashes)})


def input_hashes(recipe: Recipe, folder: Path, stage: str) -> dict[str, str] | None:
    """Content hashes of a stage's inputs as they lie there, or None while one is not made yet."""
    hashes: dict[str, str] = {}
    for name, ref in recipe.stages[stage].inputs.items():
        source, _, output = ref.partition("/")
        manifest = load_manifest(folder / source)
        if manifest is None or manifest.status != "done" or output not in manifest.outputs:
            return None
        hashes[name] = manifest.outputs[output]["hash"]
    return hashes


def make_plan(recipe: Recipe, folder: Path, only: Sequence[str] = (), rerun: Sequence[str] = ()) -> list[Step]:
    """One step for every stage that is asked for, in the order to run; raises UserError with all problems."""
    order = recipe.order()
    problems = [f"{name}: no such stage; {did_you_mean(name, order)}" for name in (*only, *rerun) if name not in order]
    if problems:
        raise UserError(*problems)
    steps: dict[str, Step] = {}
    for name in order:
        if only and name not in only:
            continue
        missing = [u for u in upstream(recipe.stages[name]) if not _available(recipe, folder, u, steps)]
        if missing:
            problems.append(f"{name}: needs {', '.join(missing)}, not made yet; add it to stages=[…]")
            continue
        steps[name] = _step(recipe, folder, name, steps, rerun)
    problems += [f"{s.stage}: {s.why}" for s in steps.values() if s.action == "refuse"]
    if problems:
        raise UserError(*problems)
    return list(steps.values())


def _available(recipe: Recipe, folder: Path, name: str, steps: Mapping[str, Step]) -> bool:
    if name in steps:
        return True
    manifest = load_manifest(folder / name)
    return manifest is not None and manifest.status == "done"


def _step(recipe: Recipe, folder: Path, name: str, steps: Mapping[str, Step], rerun: Sequence[str]) -> Step:
    settings = recipe.stages[name]
    manifest = load_manifest(folder / name)
    if manifest is None:
        return Step(name, "run", "not run yet")
    if name in rerun:
        return Step(name, "run", "asked for by rerun", aside=True)
    changed = differences(manifest.identity, identity_of(settings))
    if changed:
        if manifest.status != "done" and not durable(folder / name):
            return Step(name, "run", "settings changed, nothing had been made", aside=True)
        what = "; ".join(changed[:6])
        return Step(name, "refuse", f"has output of other settings ({what}); add rerun=[{name}], or use another run=")
    moving = [u for u in upstream(settings) if u in steps and steps[u].action not in ("skip", "resume")]
    if moving:
        return Step(name, "after", f"decided when {', '.join(moving)} is done")
    hashes = input_hashes(recipe, folder, name)
    if hashes is None:
        return Step(name, "resume", "was begun; goes on when its inputs are there")
    return settled(settings, manifest, hashes, folder / name)


def settled(settings: StageSettings, manifest: Manifest, hashes: Mapping[str, str], folder: Path) -> Step:
    """The step of a stage whose own settings are unchanged and whose inputs lie there."""
    name = manifest.stage
    before = {n: i["hash"] for n, i in manifest.inputs.items()}
    fixed, was = fixed_inputs(settings, hashes), fixed_inputs(settings, {n: before.get(n, "") for n in hashes})
    if fixed != was:
        which = ", ".join(n for n in fixed if fixed[n] != was.get(n))
        return Step(name, "again", f"its input changed: {which}", aside=True)
    if manifest.status != "done":
        begun = durable(folder)
        return Step(name, "resume" if begun else "run", f"{_ended(manifest)}; {_state(begun)}")
    grown = differences(manifest.growth, growth_of(settings, hashes))
    if grown:
        return Step(name, "grow", _grown(grown))
    return Step(name, "skip", "done")


def durable(folder: Path) -> list[Path]:
    """What a killed attempt left to go on from."""
    return sorted(p for pattern in DURABLE for p in folder.glob(pattern))


def _ended(manifest: Manifest) -> str:
    if manifest.status == "failed":
        return f"attempt {manifest.attempt} failed ({manifest.exit.get('reason', 'unknown')})"
    return f"attempt {manifest.attempt} was interrupted"


def _state(begun: Sequence[Path]) -> str:
    checkpoints = [int(p.name.split("-")[1]) for p in begun if p.name.startswith("checkpoint-")]
    if checkpoints:
        return f"goes on from checkpoint-{max(checkpoints)}"
    return "goes on from what its store holds" if begun else "nothing was kept, it starts from the beginning"


def _grown(changes: Sequence[str]) -> str:
    words = [c for c in changes if not c.startswith("inputs.")]
    rows = [c.partition(":")[0].removeprefix("inputs.") for c in changes if c.startswith("inputs.")]
    return "; ".join(words + [f"input {r} changed" for r in rows]) + ": only what is missing is made"
