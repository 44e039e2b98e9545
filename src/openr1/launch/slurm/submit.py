"""`openr1 submit`: check everything, write the files, queue the chain; all of it or nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openr1.config.cluster import ClusterSettings
from openr1.config.recipe import Recipe, save_run_yaml
from openr1.errors import OpenR1Error, OutsideError, UserError
from openr1.launch.check import check
from openr1.launch.fetch import Fetched, fetch, save_pins, with_pins
from openr1.launch.plan import Step, make_plan
from openr1.launch.publishing import ask_hub, publish_problems
from openr1.launch.run import check_folder, run_folder
from openr1.launch.slurm import commands
from openr1.launch.slurm.chain import Chain, make_chain
from openr1.launch.slurm.commands import Queued, Refused
from openr1.launch.slurm.jobs import Job, array_text, price
from openr1.launch.slurm.ledger import Submitted, add_to_ledger
from openr1.launch.slurm.render import render
from openr1.launch.slurm.site import names_of, partitions, site_problems
from openr1.log import logger
from openr1.manifest import move_aside, write_atomic
from openr1.store import FileLock


@dataclass
class Prepared:
    """A run whose every check has passed: what `queue` will submit."""

    recipe: Recipe
    folder: Path
    chain: Chain
    rerun: Sequence[str]
    pins: Sequence[Fetched]

    def document(self, ids: dict[tuple[str, str], Submitted] | None = None) -> dict[str, Any]:
        """What --json prints; `ids` by stage and part, once submitted."""
        site = self.recipe.cluster
        jobs = [_row(self.folder, job, site, (ids or {}).get((job.stage, job.part))) for job in self.chain.jobs]
        return {
            "run": self.folder.name,
            "path": str(self.folder),
            "recipe": self.recipe.recipe,
            "cluster": site.name,
            "submitted": ids is not None,
            "jobs": jobs,
            "done": self.chain.done,
            "queued": {name: [q.id for q in live] for name, live in self.chain.queued.items()},
            **price(self.chain.jobs, site),
            "requeues": site.requeues,
        }


def _row(folder: Path, job: Job, site: ClusterSettings, made: Submitted | None) -> dict[str, Any]:
    return {
        "stage": job.stage,
        "part": job.part,
        "name": job.name,
        "job": made.job if made else None,
        "after": list(job.after),
        "nodes": job.nodes,
        "gpus": job.gpus,
        "tasks": len(job.tasks),
        "array": array_text(job.tasks, site.shards_at_once) if job.tasks else None,
        "minutes": job.minutes,
        "gpu_hours": round(job.gpu_hours, 3),
        "script": str(folder / job.stage / job.script),
    }


def prepare(recipe: Recipe, only: Sequence[str], rerun: Sequence[str], dry_run: bool = False) -> Prepared:
    """Everything that can be found wrong before a job is queued; writes nothing. A dry run needs no Slurm.

    Raises UserError with all problems, OutsideError where Slurm is not here or does not answer.
    """
    site = recipe.cluster
    if site.kind != "slurm":
        raise UserError(
            f"cluster={site.name} is this machine; submit to a Slurm site, cluster=NAME, or say openr1 run"
        )
    folder = run_folder(recipe)
    check_folder(recipe, folder)
    if problems := publish_problems(recipe):
        raise UserError(*problems)
    pins: list[Fetched] = []
    if not site.internet:
        recipe, pins = _for_nodes_without_internet(recipe, folder, dry_run)
    steps = make_plan(recipe, folder, only, rerun)
    if problems := check(recipe)["problems"]:
        raise UserError(*problems)
    todo = [step.stage for step in steps if step.action != "skip"]
    if todo and not dry_run:
        ask_hub(recipe, todo)
    try:
        chain = _with_slurm(recipe, folder, steps, rerun)
    except OutsideError as e:
        if not dry_run:
            raise
        logger.warning("not checked: what the site has and what is queued; %s", e)
        chain = make_chain(recipe, folder, steps, rerun, [])
    return Prepared(recipe, folder, chain, rerun, pins)


def _for_nodes_without_internet(recipe: Recipe, folder: Path, dry_run: bool) -> tuple[Recipe, list[Fetched]]:
    """All that the Hub has to give is fetched here and pinned; W&B keeps its files for `wandb sync`."""
    recipe = with_pins(recipe, folder)
    if recipe.track.mode == "online":
        recipe = recipe.model_copy(update={"track": recipe.track.model_copy(update={"mode": "offline"})})
    if dry_run:
        logger.warning(
            "not fetched: what the recipe needs of the Hub; submit fetches it first, for nodes without internet"
        )
        return recipe, []
    return fetch(recipe)


def _with_slurm(recipe: Recipe, folder: Path, steps: Sequence[Step], rerun: Sequence[str]) -> Chain:
    chain = make_chain(recipe, folder, steps, rerun, commands.queue(str(folder.absolute())))
    if chain.jobs:
        _judge(recipe, folder, chain.jobs)
    return chain


def _judge(recipe: Recipe, folder: Path, jobs: Sequence[Job]) -> None:
    """What the site says of the jobs: first in our words, then in Slurm's, which also knows accounts and QOS."""
    if problems := site_problems(jobs, recipe.cluster.gpu_type, partitions()):
        raise UserError(*problems)
    said: dict[str, list[str]] = {}
    tried: dict[tuple[Any, ...], str] = {}
    for job in jobs:
        alike = (
            job.nodes,
            job.gpus,
            job.cpus,
            job.memory_gib,
            job.minutes,
            job.partition,
            job.account,
            job.qos,
            job.tasks,
        )
        if alike not in tried:
            tried[alike] = _refusal(render(recipe, folder, job))
        if tried[alike]:
            said.setdefault(tried[alike], []).append(job.stage)
    if said:
        raise UserError(*(f"{names_of(stages)}: Slurm refuses: {why}" for why, stages in said.items()))


def _refusal(script: str) -> str:
    try:
        commands.try_sbatch(script)
    except Refused as e:
        return f"{e.why}; mend the site's file (cluster) or the stage's resources"
    return ""


# ---------------------------------------------------------------------------------------------------------- writing
def write_scripts(prepared: Prepared, dry_run: bool = False) -> None:
    """The recipe as composed, and a file for every job. A dry run leaves the recipe that queued jobs read alone."""
    recipe, folder = prepared.recipe, prepared.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (dry_run and prepared.chain.queued):
            save_run_yaml(recipe, folder)
        save_pins(folder, prepared.pins)
        for job in prepared.chain.jobs:
            (folder / job.stage / "logs" / "slurm").mkdir(parents=True, exist_ok=True)
            write_atomic(folder / job.stage / job.script, render(recipe, folder, job))
    except OSError as e:
        raise OutsideError(
            f"{folder}: cannot be written ({e.strerror}); set OPENR1_RUNS to a place you may write"
        ) from e


@contextmanager
def _old_outputs_aside(prepared: Prepared) -> Iterator[None]:
    """What `rerun` names moves aside before its job can start, and back where nothing was submitted."""
    moved: list[tuple[Path, Path]] = []
    fresh = prepared.chain.fresh
    try:
        for name in prepared.rerun:
            if name in fresh and (prepared.folder / name).exists():
                moved.append((prepared.folder / name, move_aside(prepared.folder / name)))
        yield
    except BaseException:
        for place, aside in reversed(moved):
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)
        raise


# ----------------------------------------------------------------------------------------------------------- queueing
def submit_all(runs: Sequence[Prepared]) -> list[dict[str, Any]]:
    """Queue the chains of several runs; where one job is refused, none of them stays queued."""
    made: list[Submitted] = []
    try:
        return [_submit(prepared, made.append) for prepared in runs]
    except BaseException as e:
        _take_back(runs, made, e)
        raise


def _submit(prepared: Prepared, tell: Callable[[Submitted], None]) -> dict[str, Any]:
    folder, chain = prepared.folder, prepared.chain
    what = f"submitting run {folder.name}"
    with FileLock(folder / ".locks" / "submit.lock", what), _old_outputs_aside(prepared):
        write_scripts(prepared)
        commands.scancel(sorted({q.job for q in chain.doomed}))
        made: dict[tuple[str, str], Submitted] = {}
        for job in chain.jobs:
            waits = _waits(job, chain, made)
            script = str((folder / job.stage / job.script).absolute())
            made[job.stage, job.part] = done = _queue_one(job, script, waits)
            tell(done)
        add_to_ledger(folder, made.values())
    return prepared.document(made)


def _queue_one(job: Job, script: str, waits: dict[str, list[str]]) -> Submitted:
    text = ",".join(f"{kind}:{':'.join(ids)}" for kind, ids in waits.items() if ids)
    try:
        number = commands.sbatch(script, text or None)
    except Refused as e:
        raise UserError(f"{job.stage}: Slurm refuses: {e.why}; nothing of this run was queued") from e
    at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return Submitted(job.stage, job.part, number, waits["afterok"], list(job.tasks), job.shards, job.minutes, at)


def _waits(job: Job, chain: Chain, made: dict[tuple[str, str], Submitted]) -> dict[str, list[str]]:
    """The ids of what has to be done before, and of what only has to be gone."""
    ok: list[str] = []
    for stage in job.after:
        if stage in chain.queued:
            ok += _last(chain.queued[stage])
        else:
            ok.append((made.get((stage, "stage")) or made[stage, "merge"]).job)
    if job.part == "merge" and (job.stage, "shards") in made:
        ok.append(made[job.stage, "shards"].job)
    gone = [*chain.ending.get(job.stage, []), *(q for q in chain.doomed if q.stage == job.stage)]
    return {"afterok": ok, "afterany": sorted({q.job for q in gone})}


def _last(live: Sequence[Queued]) -> list[str]:
    """The job that ends a stage; where only tasks of its array are left, those."""
    return [q.id for q in live if q.part != "shards"] or [q.id for q in live]


def _take_back(runs: Sequence[Prepared], made: Sequence[Submitted], why: BaseException) -> None:
    """Cancel what was queued before something failed, and what Slurm took though its answer was lost."""
    ids = {job.job for job in made}
    before = {q.job for prepared in runs for live in prepared.chain.queued.values() for q in live}
    try:
        if isinstance(why, OutsideError):
            for prepared in runs:
                ids |= {q.job for q in commands.queue(str(prepared.folder.absolute()))} - before
        commands.scancel(sorted(ids))
    except OpenR1Error as e:
        logger.error("jobs %s may still be queued (%s); `openr1 cancel` ends them", ", ".join(sorted(ids)), e)
        return
    if ids:
        logger.error("%d jobs that were queued already have been cancelled", len(ids))
