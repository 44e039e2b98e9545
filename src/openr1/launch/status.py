"""What a run is doing, here or on Slurm: one line a stage, from manifests, locks and the queue."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openr1.config.recipe import RUN_YAML, load_run_yaml, run_problem
from openr1.errors import UserError, did_you_mean
from openr1.launch import shards
from openr1.launch.plan import durable
from openr1.launch.shards import lock_path
from openr1.launch.slurm.progress import LOGS, JobState, job_states
from openr1.manifest import load_manifest
from openr1.metrics import read_metrics
from openr1.paths import runs_dir
from openr1.stages.settings import StageSettings
from openr1.store import is_locked


def run_path(run: str) -> Path:
    """Where a run lies: a name is one under the runs folder, what has a slash is a path. Raises UserError."""
    if wrong := run_problem(run):
        raise UserError(wrong)
    return Path(run) if "/" in run else runs_dir() / run


def find_run(run: str) -> Path:
    """The folder of a run that is there, given by its name under the runs folder or by a path."""
    folder = run_path(run)
    if (folder / RUN_YAML).is_file():
        return folder
    where = "no run there" if "/" in run else f"no such run under {runs_dir()}"
    raise UserError(f"{run}: {where}; {did_you_mean(folder.name, run_names())}")


def run_names() -> list[str]:
    """Names of the runs under the runs folder, the newest first."""
    files = sorted(runs_dir().glob(f"*/{RUN_YAML}"), key=lambda p: -p.stat().st_mtime)
    return [p.parent.name for p in files]


@dataclass(frozen=True)
class StageStatus:
    """One stage: `state` is waiting, queued, running, interrupted, failed, cancelled, done, off (it has nothing to do)
    or unreadable (its manifest is); seconds are those of all attempts; `job` is the id of its Slurm job."""

    stage: str
    kind: str
    state: str
    attempts: int
    seconds: float
    note: str
    job: str | None = None


def run_status(folder: Path) -> tuple[list[StageStatus], str | None]:
    """The stages of a run in order; and, where its jobs cannot be asked after, why."""
    recipe = load_run_yaml(folder)
    jobs, problem = job_states(recipe, folder)
    stages = [_stage_status(folder, name, recipe.stages[name]) for name in recipe.order()]
    return [_with_job(stage, jobs.get(stage.stage)) for stage in stages], problem


def _with_job(stage: StageStatus, job: JobState | None) -> StageStatus:
    """What Slurm knows goes before what the files say, but for a stage that is done."""
    if job is None or (stage.state == "done" and job.state not in ("queued", "running")):
        return stage
    if job.state == "ended":  # not badly, and the stage is not done: killed from outside, or by hand
        return replace(stage, job=job.job)
    return replace(stage, state=job.state, job=job.job, note="; ".join(filter(None, (job.note, _own(stage, job)))))


def _own(stage: StageStatus, job: JobState) -> str:
    """What the stage says of itself, where the job's note does not say it already."""
    return "" if stage.state == "failed" and stage.note in job.note else stage.note


def _stage_status(folder: Path, name: str, settings: StageSettings) -> StageStatus:
    try:
        return _told(folder, name, settings)
    except UserError as e:  # a manifest that is torn, of the stage or of one of its shards
        return StageStatus(name, settings.kind, "unreadable", 0, 0.0, str(e))


def _told(folder: Path, name: str, settings: StageSettings) -> StageStatus:
    kind, manifest = settings.kind, load_manifest(folder / name)
    if manifest is None and (why := settings.off(name)):
        return StageStatus(name, kind, "off", 0, 0.0, why.removeprefix("off; "))
    running = is_locked(lock_path(folder, name))
    parts = shards.progress(folder, name) if kind == "generate" and not running else None
    if parts is not None and (manifest is None or parts[0] == "running"):
        tasks = shards.totals(folder / name)
        attempts, seconds = sum(t["attempts"] for t in tasks), sum(t["seconds"] for t in tasks)
        return StageStatus(name, kind, parts[0], attempts, round(seconds, 1), parts[1])
    if manifest is None:
        return StageStatus(name, kind, "running" if running else "waiting", 0, 0.0, "")
    state: str = manifest.status
    note, seconds = "", manifest.total_seconds
    if manifest.status == "running":
        state = "running" if running else "interrupted"
        seconds += time.time() - manifest.started_at if running else 0.0
        note = _progress(folder / name)
    elif manifest.status == "failed":
        note = str(manifest.exit.get("reason", ""))
    else:
        note = _counts(manifest.counts) or _published(manifest.results.get("published"))
    return StageStatus(name, kind, state, manifest.attempt, round(seconds, 1), note)


def _progress(folder: Path) -> str:
    rows = read_metrics(folder / "metrics.jsonl")
    if rows:
        return f"step {rows[-1]['step']}"
    return "has partial output" if durable(folder) else ""


def _counts(counts: dict[str, Any]) -> str:
    if "in" in counts and "out" in counts:
        return f"{counts['in']} in, {counts['out']} out"
    return ""


def _published(told: dict[str, Any] | None) -> str:
    """Where a publish stage's output is."""
    return f"{told['type']} {told['repo']} at {told['commit'][:12]}" if told else ""


def log_files(folder: Path, stage: str | None) -> list[Path]:
    """The log files of a stage's latest attempt; without a stage, of the one that wrote last."""
    stages = load_run_yaml(folder).order()
    if stage is not None and stage not in stages:
        raise UserError(f"{stage}: no such stage in {folder.name}; {did_you_mean(stage, stages)}")
    found = {s: _newest(folder / s) for s in ([stage] if stage else stages)}
    written = {s: max(p.stat().st_mtime for p in files) for s, files in found.items() if files}
    if not written:
        raise UserError(f"{folder.name}{'/' + stage if stage else ''}: no log yet; the stage has not started")
    return found[max(written, key=lambda s: written[s])]


def _newest(stage: Path) -> list[Path]:
    """The logs of a stage's latest attempt, and of its latest Slurm job: what the job said, and Slurm of it."""
    own = sorted(stage.glob("logs/attempt_*/*.log"), key=lambda p: p.stat().st_mtime)
    files = sorted(own[-1].parent.glob("*.log")) if own else []
    latest = stage / LOGS / "latest"
    if latest.is_file():
        job = latest.resolve().name.partition(".")[0]
        files += [p for p in sorted((stage / LOGS).glob(f"{job}.log")) if p.stat().st_size] + [latest.resolve()]
    return files
