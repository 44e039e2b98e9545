"""What to submit of a run: stages that are neither done nor in the queue, and queued ones that wait in vain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openr1.config.graph import upstream
from openr1.config.recipe import RUN_YAML, Recipe, load_run_yaml
from openr1.errors import UserError
from openr1.launch.key import growth_of, identity_of, input_hashes
from openr1.launch.plan import Step
from openr1.launch.shard_plan import own_step
from openr1.launch.shards import lock_path
from openr1.launch.slurm.commands import Queued
from openr1.launch.slurm.jobs import Job, shard_jobs, stage_job
from openr1.manifest import differences
from openr1.stages.settings import GenerateStage
from openr1.store import Shard, holder_of, is_locked


@dataclass
class Chain:
    """`jobs` in the order to submit; `queued` by stage are there already; `doomed` wait for what will never be;
    `ending` have ended and are still being cleared away."""

    jobs: list[Job] = field(default_factory=list)
    queued: dict[str, list[Queued]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    doomed: list[Queued] = field(default_factory=list)
    ending: dict[str, list[Queued]] = field(default_factory=dict)

    @property
    def fresh(self) -> set[str]:
        return {job.stage for job in self.jobs}


def make_chain(
    recipe: Recipe, folder: Path, steps: Sequence[Step], rerun: Sequence[str], there: Sequence[Queued]
) -> Chain:
    """The chain of a plan, given what is in the queue. Raises UserError with all problems."""
    chain, problems = Chain(), []
    before = load_run_yaml(folder) if (folder / RUN_YAML).exists() else None
    for step in steps:
        name = step.stage
        own = [q for q in there if q.stage == name]
        live = [q for q in own if not q.ending]
        if live and _in_vain(recipe, name, live, chain):
            chain.doomed += live
        elif live:
            chain.queued[name] = live
            problems += _cannot_stay(recipe, before, step, rerun, live)
            continue
        if step.action == "skip":
            chain.done += [] if recipe.stages[name].off(name) else [name]
            continue
        chain.ending[name] = [q for q in own if q.ending]
        if is_locked(lock_path(folder, name)) and not own:
            problems.append(f"{name}: is in use by {holder_of(lock_path(folder, name))}; wait for it, or stop it")
        chain.jobs += _jobs(recipe, folder, step, rerun, chain)
    if problems:
        raise UserError(*problems)
    return chain


def _in_vain(recipe: Recipe, name: str, live: Sequence[Queued], chain: Chain) -> bool:
    """Whether queued jobs wait for one that is gone: Slurm ends them soon, and its stage is submitted anew."""
    pending = all(q.state == "PENDING" for q in live)
    return pending and any(u in chain.fresh for u in upstream(recipe.stages[name]))


def _cannot_stay(
    recipe: Recipe, before: Recipe | None, step: Step, rerun: Sequence[str], live: Sequence[Queued]
) -> list[str]:
    """Why what is queued for a stage is not what is asked for now."""
    name, job = step.stage, live[0].id
    cancel = f"`openr1 cancel {recipe.run}` first, or use another run="
    if name in rerun:
        return [f"{name}: rerun asks for it anew, and job {job} is at it; {cancel}"]
    if before is None or name not in before.stages:
        return []
    old, new = before.stages[name], recipe.stages[name]
    changed = differences(identity_of(old), identity_of(new)) + differences(old.growth(), new.growth())
    return [f"{name}: job {job} is at it with other settings ({'; '.join(changed[:6])}); {cancel}"] if changed else []


def _jobs(recipe: Recipe, folder: Path, step: Step, rerun: Sequence[str], chain: Chain) -> list[Job]:
    name = step.stage
    settings = recipe.stages[name]
    after = [u for u in upstream(settings) if u in chain.fresh or u in chain.queued]
    moves = (step.aside and name not in rerun) or step.action in ("after", "again")
    if not isinstance(settings, GenerateStage) or settings.resources.shards == 1 or moves:
        return [stage_job(recipe, name, after)]  # shards cannot move an old output aside
    return shard_jobs(recipe, name, _missing_shards(recipe, folder, step, rerun), after)


def _missing_shards(recipe: Recipe, folder: Path, step: Step, rerun: Sequence[str]) -> list[int]:
    """The shards of a generate stage that are still to make."""
    name = step.stage
    settings, hashes = recipe.stages[name], input_hashes(recipe, folder, name)
    count = settings.resources.shards
    if hashes is None or name in rerun:
        return list(range(count))
    growth = growth_of(settings, hashes)
    steps = (own_step(name, Shard(i, count), folder / name, growth) for i in range(count))
    return [i for i, shard in enumerate(steps) if shard.action != "skip"]
