"""What is compared: runs as their folders tell, as offline `.wandb` files tell, or as a W&B server tells.

Whatever it comes from, a side has stages by name, each with its settings, its metrics by step and what it took.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openr1.errors import OutsideError, UserError
from openr1.manifest import flat
from openr1.report.load import Run, Stage, load_run
from openr1.report.summary import price_per_gpu_hour
from openr1.report.wandb_file import WandbFile, read_wandb_file

OF_THE_RUN = ("recipe", "openr1", "_wandb", "inputs", "resources", "kind")  # keys of W&B's config that are no setting
MOST_SAMPLES = 10_000  # points of a run that a W&B server is asked for; of longer runs it sends so many
Row = dict[str, Any]


@dataclass
class SideStage:
    """One stage of a side. `rows`: its metrics in step order; a value that is not finite is None."""

    name: str
    kind: str
    status: str
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    tokens: int | None = None
    seconds: float | None = None
    gpu_hours: float | None = None
    usd: float | None = None
    attempts: int | None = None


@dataclass
class Side:
    """One run. `folder` is where its samples and rollouts lie, None where only its metrics are known."""

    label: str
    source: str
    recipe: str
    stages: dict[str, SideStage]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)


def side_of_folder(folder: Path) -> Side:
    """A run's folder. Raises UserError where it is none."""
    run = load_run(folder)
    price = price_per_gpu_hour(run)
    stages = {s.name: _stage(s, price, run) for s in run.stages}
    notes = [f"{s.name} is {s.status}" for s in run.stages if not s.done]
    return Side(run.name, "folder", run.recipe, stages, folder, notes)


def _stage(stage: Stage, price: float | None, run: Run) -> SideStage:
    m = stage.manifest
    settings = m.settings if m else run.config["stages"].get(stage.name) or {}
    config = flat({k: v for k, v in settings.items() if k not in ("inputs", "resources", "kind")})
    found = SideStage(stage.name, stage.kind, stage.status, config, stage.metrics)
    if m is not None:
        found.tokens = sum(m.tokens.values()) if m.tokens else None
        found.seconds, found.gpu_hours = m.total_seconds or m.seconds, m.gpu_hours
        found.usd = m.gpu_hours * price if price else None
        found.attempts = m.attempt
    return found


# ------------------------------------------------------------------------------------------------- .wandb and W&B
def side_of_files(path: Path) -> Side:
    """A `.wandb` file, or a folder that holds some: attempts of one stage become one, the later ones count."""
    files = [path] if path.is_file() else sorted(path.rglob("*.wandb"))
    if not files:
        raise UserError(f"{path}: holds no .wandb file and no run.yaml; name a run's folder or a .wandb file")
    read = sorted((read_wandb_file(f) for f in files), key=lambda f: f.started)
    stages: dict[str, SideStage] = {}
    for one in read:
        name = one.job_type or one.name or one.id
        stages[name] = _merged(stages.get(name), one)
    groups = list(dict.fromkeys(f.group or f.name for f in read))
    torn = [f"{f.path.name} ends in the middle of a record; what is before it is shown" for f in read if f.torn]
    return Side(groups[0] or path.stem, "wandb file", _recipe_of(f.config for f in read), stages, notes=torn)


def _merged(before: SideStage | None, one: WandbFile) -> SideStage:
    status = {None: "unfinished", 0: "done"}.get(one.exit_code, "failed")
    rows = {row["step"]: row for row in (before.rows if before else [])}
    rows |= {row["step"]: row for row in metric_rows(one.history)}
    name = one.job_type or one.name or one.id
    return _from_wandb(name, status, one.config, [rows[s] for s in sorted(rows)], one.summary)


def _from_wandb(name: str, status: str, config: Row, rows: list[Row], summary: Mapping[str, Any]) -> SideStage:
    kind = str(config.get("kind") or name)
    settings = flat({k: v for k, v in config.items() if k not in OF_THE_RUN})
    found = SideStage(name, kind, status, settings, rows)
    tokens = [int(v) for k, v in summary.items() if k.startswith("tokens/") and isinstance(v, (int, float))]
    found.tokens = sum(tokens) if tokens else None
    found.seconds, found.gpu_hours = summary.get("total/seconds"), summary.get("total/gpu_hours")
    return found


def metric_rows(history: Iterable[Mapping[str, Any]]) -> list[Row]:
    """W&B's history as rows of our log: by `step`, numbers only, what is not finite as None."""
    rows: dict[int, Row] = {}
    for entry in history:
        step = entry.get("step", entry.get("_step"))
        if isinstance(step, (int, float)):
            kept = {k: _number(v) for k, v in entry.items() if not k.startswith("_") and not isinstance(v, dict)}
            rows[int(step)] = rows.get(int(step), {}) | kept | {"step": int(step)}
    return [rows[s] for s in sorted(rows)]


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _recipe_of(configs: Iterable[Mapping[str, Any]]) -> str:
    named = [c["recipe"] for c in configs if isinstance(c.get("recipe"), dict)]
    return str(named[0].get("recipe") or "unknown") if named else "unknown"


def sides_of_wandb(words: Sequence[str], filters: str | None) -> list[Side]:
    """Runs of a W&B server: each word is [entity/]project/group, or [entity/]project with every group of it.

    `filters` is W&B's own query as JSON. Raises UserError for bad words, OutsideError where W&B does not answer.
    """
    try:
        query = json.loads(filters) if filters else {}
    except ValueError as e:
        raise UserError(f'--filter is no JSON ({e}); W&B\'s own form is meant, as in \'{{"jobType": "grpo"}}\'') from e
    import requests
    import wandb

    sides: dict[str, Side] = {}
    try:
        api = wandb.Api(timeout=30)
        for word in words:
            for run in api.runs(_project(word), filters=query | _group(word), per_page=100):
                _add(sides, run)
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as e:
        raise UserError("W&B tells nothing without a key: run `wandb login`, or set WANDB_API_KEY") from e
    except (wandb.errors.Error, ValueError, requests.RequestException) as e:
        said = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise OutsideError(f"W&B: {said}; check the name and the way there") from e
    if not sides:
        raise UserError(f"W&B has no run in {', '.join(words)}; give [entity/]project/group")
    return list(sides.values())


def _project(word: str) -> str:
    parts = word.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def _group(word: str) -> dict[str, str]:
    parts = word.split("/")
    return {"group": parts[-1]} if len(parts) > 1 else {}


def _add(sides: dict[str, Side], run: Any) -> None:
    label = str(run.group or run.name)
    config = dict(run.config)
    side = sides.setdefault(label, Side(label, "W&B", _recipe_of([config]), {}))
    status = {"finished": "done", "running": "unfinished"}.get(run.state, "failed")
    name = str(run.job_type or run.name)
    rows = metric_rows(run.history(samples=MOST_SAMPLES, pandas=False))
    side.stages[name] = _from_wandb(name, status, config, rows, dict(run.summary))
