"""What became of a run's jobs: waiting for what, running where, ended why. Slurm is asked once for the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openr1.config.graph import upstream
from openr1.config.recipe import Recipe
from openr1.errors import OutsideError, UserError
from openr1.launch.job import job_folder
from openr1.launch.record import load_record
from openr1.launch.slurm import commands
from openr1.launch.slurm.commands import Ended, Queued
from openr1.launch.slurm.jobs import limit_text
from openr1.launch.slurm.ledger import Submitted, load_ledger
from openr1.manifest import load_manifest
from openr1.store import Shard

LOGS = Path("logs") / "slurm"
BAD = {
    "FAILED": "failed", "TIMEOUT": "failed", "NODE_FAIL": "failed", "OUT_OF_MEMORY": "failed", "BOOT_FAIL": "failed",
    "DEADLINE": "failed", "CANCELLED": "cancelled", "PREEMPTED": "cancelled", "REVOKED": "cancelled",
}  # fmt: skip
WAITING = {
    "Dependency": "waits for what it reads", "Priority": "others go first", "Resources": "waits for free nodes",
    "BeginTime": "was put back into the queue, starts soon", "JobHeldUser": "held; scontrol release starts it",
    "JobHeldAdmin": "held by the site",
}  # fmt: skip


@dataclass(frozen=True)
class JobState:
    """`state` is queued, running, cancelled, failed or ended; `note` says where or why, for a person."""

    state: str
    job: str
    note: str


def job_states(recipe: Recipe, folder: Path) -> tuple[dict[str, JobState], str | None]:
    """By stage, for those that were submitted; and, where Slurm does not answer, why not."""
    submitted = load_ledger(folder)
    if not submitted:
        return {}, None
    last = {(row.stage, row.part): row for row in submitted}
    try:
        live = commands.queue(str(folder.absolute()))
        ended = commands.account([row.job for row in last.values()])
    except OutsideError as e:
        return {}, str(e)
    states: dict[str, JobState] = {}
    for name in recipe.order():
        rows = [row for (stage, _), row in last.items() if stage == name]
        own = [q for q in live if q.stage == name]
        if own:
            states[name] = _live(recipe, name, own)
        elif rows:
            states[name] = _gone(recipe, folder, name, rows, ended, states)
    return states, None


def _live(recipe: Recipe, name: str, own: Sequence[Queued]) -> JobState:
    running = [q for q in own if q.state not in ("PENDING", "REQUEUED")]
    first = (running or own)[0]
    if running:
        nodes = ", ".join(dict.fromkeys(q.nodes for q in running if q.nodes))
        tasks = f", {len(running)} tasks" if first.task is not None else ""
        return JobState("running", first.id, f"job {first.id}{tasks} on {nodes}")
    why = WAITING.get(first.reason, first.reason)
    if first.reason == "Dependency":
        why = f"after {', '.join(upstream(recipe.stages[name]))}"
    return JobState("queued", first.id, f"job {first.id}: {why}")


def _gone(
    recipe: Recipe,
    folder: Path,
    name: str,
    rows: Sequence[Submitted],
    ended: dict[str, Ended],
    states: dict[str, JobState],
) -> JobState:
    """How the jobs of a stage ended: the first bad end counts."""
    for row in rows:
        ends = [end for job, end in ended.items() if job.partition("_")[0] == row.job]
        bad = next((end for end in ends if end.state in BAD), None)
        if bad is None:
            continue
        if bad.state == "CANCELLED" and bad.nodes in ("", "None assigned"):
            lost = next((u for u in upstream(recipe.stages[name]) if _lost(states.get(u))), None)
            if lost is not None:
                return JobState("cancelled", bad.job, f"job {bad.job} was not started: {lost} {states[lost].state}")
        return JobState(BAD[bad.state], bad.job, _why(bad, folder, row))
    job = rows[-1].job
    return JobState("ended", job, f"job {job} has ended")


def _lost(state: JobState | None) -> bool:
    return state is not None and state.state in ("failed", "cancelled")


def _why(end: Ended, folder: Path, row: Submitted) -> str:
    again = "the same submit goes on from what it has made"
    match end.state:
        case "TIMEOUT":
            return f"job {end.job} reached its limit of {limit_text(row.minutes)} on {end.nodes}; {again}"
        case "NODE_FAIL" | "BOOT_FAIL":
            return f"job {end.job}: its node failed ({end.nodes}); {again}"
        case "OUT_OF_MEMORY":
            return f"job {end.job} took more memory than it asked for, on {end.nodes}; raise the memory of its jobs"
        case "CANCELLED":
            return f"job {end.job} was cancelled; {again}"
    return f"job {end.job} ended with code {end.code} on {end.nodes}: {_said(folder, row.stage, row)}"


def _said(folder: Path, stage: str, row: Submitted) -> str:
    """The reason that the job's launcher has put down, or the stage itself."""
    places: list[Shard | None] = [Shard(i, row.shards) for i in row.tasks] or [None]
    records = [load_record(job_folder(folder, stage, shard)).latest for shard in places]
    said = next((r.reason for r in records if r is not None and r.state == "failed" and r.reason), "")
    with suppress(UserError):  # a torn manifest is told of with its stage
        if not said and (manifest := load_manifest(folder / stage)) is not None and manifest.status == "failed":
            said = str(manifest.exit.get("reason", ""))
    return said or f"see {folder / stage / LOGS / 'latest'}"
