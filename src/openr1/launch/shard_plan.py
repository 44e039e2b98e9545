"""The plan of `openr1 run stages=[generate] shard=3/16`: one task of N that fill one store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openr1.config.recipe import Recipe
from openr1.errors import UserError
from openr1.launch.key import changed_inputs, growth_of, input_hashes
from openr1.launch.plan import Step, changes, name_problems
from openr1.launch.shards import active_shards, begun, in_use, lock_path, most_samples, shard_folder, shards_of
from openr1.manifest import differences, load_manifest
from openr1.stages.settings import GenerateStage
from openr1.store import Shard, holder_of, is_locked


def make_shard_plan(
    recipe: Recipe, folder: Path, only: Sequence[str], rerun: Sequence[str], shard: Shard
) -> list[Step]:
    """One step for every generate stage that is asked for; raises UserError with all problems."""
    problems = name_problems(recipe, only, rerun) or word_problems(recipe, only, rerun, shard)
    if problems:
        raise UserError(*problems)
    steps = [_step(recipe, folder, name, shard) for name in recipe.order() if name in only]
    problems = [f"{s.stage}: {s.why}" for s in steps if s.action == "refuse"]
    if problems:
        raise UserError(*problems)
    return steps


def word_problems(recipe: Recipe, only: Sequence[str], rerun: Sequence[str], shard: Shard) -> list[str]:
    """What does not go together with `shard=i/N`."""
    generate = [n for n, s in recipe.stages.items() if isinstance(s, GenerateStage)]
    if not generate:
        return [f"shard={shard}: recipe {recipe.recipe} has no generate stage, and only those have shards"]
    named = f"stages=[{','.join(generate)}]"
    problems = [] if only else [f"shard={shard}: name the generate stage that it is of, {named}"]
    problems += [
        f"shard={shard}: {name} is a {recipe.stages[name].kind} stage, and only generate stages have shards; {named}"
        for name in only
        if name not in generate
    ]
    if rerun:
        problems.append(
            f"shard={shard}: not together with rerun=[{','.join(rerun)}], which moves the whole store aside; "
            "run that without shard= first"
        )
    return problems


def _step(recipe: Recipe, folder: Path, name: str, shard: Shard) -> Step:
    settings = recipe.stages[name]
    assert isinstance(settings, GenerateStage)
    hashes = input_hashes(recipe, folder, name)
    if hashes is None:
        sources = sorted({ref.partition("/")[0] for ref in settings.inputs.values()})
        why = f"needs {', '.join(sources)} done before its shards start; run stages=[{','.join(sources)}] first"
        return Step(name, "refuse", why)
    if busy := _busy(folder, name, shard):
        return Step(name, "refuse", busy)
    begun_by = begun(folder / name)
    if begun_by is not None:
        if changed := changes(begun_by, settings):
            what = "; ".join(changed[:6])
            why = f"has output of other settings ({what}); run it without shard= and with rerun=[{name}], or use run="
            return Step(name, "refuse", why)
        if moved := changed_inputs(settings, begun_by, hashes):
            which = ", ".join(moved)
            return Step(name, "refuse", f"its input changed: {which}; run it without shard= and with rerun=[{name}]")
        most = max(most_samples(folder / name), begun_by.growth.get("k", 0))
        if settings.k < most:
            return Step(name, "refuse", f"k: {most} -> {settings.k} would take rows away; keep k")
    return own_step(name, shard, folder / name, growth_of(settings, hashes))


def _busy(folder: Path, name: str, shard: Shard) -> str | None:
    """Who stands in the way of a shard now; the locks say it again when it starts."""
    if is_locked(lock_path(folder, name)):
        return f"is in use by {holder_of(lock_path(folder, name))}; wait for it to end, or stop it"
    active = active_shards(folder, name)
    if shard in active:
        return in_use(folder, name, [shard])
    others = [s for s in active if s.count != shard.count]
    return f"{in_use(folder, name, others)}; only one partition at a time" if others else None


def own_step(name: str, shard: Shard, folder: Path, growth: Mapping[str, Any]) -> Step:
    """What is left to do of a shard that may be added to."""
    own, word = load_manifest(shard_folder(folder, shard)), str(shard)
    if own is None:
        others = len(shards_of(folder))
        why = f"not run yet; {others} others have begun" if others else "not run yet"
        return Step(name, "run", f"shard {word}: {why}", shard=word)
    if own.status != "done":
        why = f"attempt {own.attempt} did not end; goes on from what its store holds"
        return Step(name, "resume", f"shard {word}: {why}", shard=word)
    if grown := differences(own.growth, dict(growth)):
        return Step(name, "grow", f"shard {word}: {'; '.join(grown)}: only what is missing is made", shard=word)
    return Step(name, "skip", f"shard {word}: done", shard=word)
