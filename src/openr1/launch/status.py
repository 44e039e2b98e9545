"""What a run is doing: one line a stage, from manifests and locks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openr1.config.recipe import RUN_YAML, load_run_yaml, run_problem
from openr1.errors import UserError, did_you_mean
from openr1.launch import shards
from openr1.launch.plan import durable
from openr1.launch.shards import lock_path
from openr1.manifest import load_manifest
from openr1.metrics import read_metrics
from openr1.paths import runs_dir
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
    """One stage: `state` is waiting, running, interrupted, failed or done; seconds are those of all attempts."""

    stage: str
    kind: str
    state: str
    attempts: int
    seconds: float
    note: str


def run_status(folder: Path) -> list[StageStatus]:
    """The stages of a run in order."""
    recipe = load_run_yaml(folder)
    return [_stage_status(folder, name, recipe.stages[name].kind) for name in recipe.order()]


def _stage_status(folder: Path, name: str, kind: str) -> StageStatus:
    manifest = load_manifest(folder / name)
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
        note = _counts(manifest.counts)
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


def log_files(folder: Path, stage: str | None) -> list[Path]:
    """The log files of a stage's latest attempt; without a stage, of the one that wrote last."""
    stages = load_run_yaml(folder).order()
    if stage is not None and stage not in stages:
        raise UserError(f"{stage}: no such stage in {folder.name}; {did_you_mean(stage, stages)}")
    found = [p for s in ([stage] if stage else stages) for p in (folder / s).glob("logs/attempt_*/*.log")]
    if not found:
        raise UserError(f"{folder.name}{'/' + stage if stage else ''}: no log yet; the stage has not started")
    newest = max(found, key=lambda p: p.stat().st_mtime)
    return sorted(newest.parent.glob("*.log"))
