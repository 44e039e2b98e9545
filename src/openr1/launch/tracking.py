"""What a tracker is told of a stage, from its settings, its manifest and its files; and `openr1 sync`.

Nothing is kept for the tracker alone, so a stage can be sent at any time: while it runs, or later, by whoever has the
run's folder.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.config.recipe import Recipe, load_run_yaml
from openr1.errors import OutsideError, UserError
from openr1.launch.lineage import artifacts_of
from openr1.manifest import Manifest, load_manifest
from openr1.metrics import TrackedTable, Tracker, open_tracker, read_metrics
from openr1.metrics.tracker import first_line

logger = logging.getLogger("openr1")

LONGEST_TEXT = 4_000  # characters of a completion in a table
ROLLOUT_COLUMNS = ("step", "prompt_id", "sample_index", "prompt", "completion", "reward", "advantage", "status")
SAMPLE_COLUMNS = ("mode", "prompt_id", "sample_index", "question", "gold", "completion", "status", "extracted")


def open_stage_tracker(recipe: Recipe, folder: Path, name: str, manifest: Manifest) -> Tracker | None:
    """The tracker of a stage of the run in `folder`; None where tracking is off."""
    command = f"openr1 sync {shlex.quote(str(folder))}"
    config = tracked_config(recipe, name, manifest)
    return open_tracker(recipe.track, folder / name, recipe.run, name, manifest.key, config, command)


def tracked_config(recipe: Recipe, name: str, manifest: Manifest) -> dict[str, Any]:
    """The stage's settings as composed, the whole recipe, and where it all comes from."""
    whole = recipe.model_dump(mode="json")
    origin = {"git": manifest.git or {}, "versions": manifest.versions, "key": manifest.key}
    return recipe.stages[name].model_dump(mode="json") | {"recipe": whole, "openr1": origin}


def finish_stage_tracker(tracker: Tracker, recipe: Recipe, folder: Path, name: str, manifest: Manifest) -> None:
    """Tell what came of the stage: lineage, completions, numbers, and an alert where it failed."""
    ok = manifest.status == "done"
    tables: list[TrackedTable] = []
    try:
        tables = list(tables_of(folder / name, manifest.kind, recipe.track.completions))
    except (OSError, pa.ArrowInvalid) as e:  # a table to look at is no reason to fail
        logger.warning("%s: its completions cannot be shown on the tracker (%s)", name, first_line(e))
    tracker.describe(artifacts_of(recipe, name, manifest) if ok else [], tables)
    if manifest.status == "failed":
        tracker.alert(f"{recipe.run}/{name} failed", str(manifest.exit.get("reason") or "no reason given"))
    tracker.finish(ok=ok, summary=summary_of(manifest))


def summary_of(manifest: Manifest) -> dict[str, Any]:
    """What the stage measured, and what it took."""
    cost = {"seconds": manifest.total_seconds or manifest.seconds, "gpu_hours": manifest.gpu_hours}
    tokens = {f"tokens/{k}": v for k, v in manifest.tokens.items()}
    return {**manifest.results, **{f"total/{k}": v for k, v in cost.items()}, **tokens}


# ------------------------------------------------------------------------------------------------------------- tables
def tables_of(folder: Path, kind: str, most: int) -> Iterator[TrackedTable]:
    """At most `most` completions of a stage: of evenly spread steps of GRPO, of the first prompts of an evaluation."""
    if most and kind == "grpo":
        files = sorted((folder / "rollouts").glob("step-*.parquet"))
        columns = ROLLOUT_COLUMNS
    elif most and kind in ("evaluate", "benchmark"):
        files, columns = sorted((folder / "samples").glob("*.parquet")), SAMPLE_COLUMNS
    else:
        return
    chosen = spread(files, 8)
    rows: list[list[Any]] = []
    for number, file in enumerate(chosen):
        left = -(-(most - len(rows)) // (len(chosen) - number))
        rows += _first_rows(file, columns, left)
    if rows:
        yield TrackedTable("completions", columns, rows)


def spread(items: list[Path], most: int) -> list[Path]:
    """At most `most` of the items, the first and the last among them, evenly apart."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _first_rows(file: Path, columns: tuple[str, ...], most: int) -> list[list[Any]]:
    with pq.ParquetFile(file) as parquet:
        there = [c for c in columns if c in parquet.schema_arrow.names]
        batch = next(parquet.iter_batches(most, columns=there), None) if most > 0 else None
    return [[_short(row.get(c)) for c in columns] for row in (batch.to_pylist() if batch is not None else [])]


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{value[:LONGEST_TEXT]}… {len(value)} characters"
    return value


# --------------------------------------------------------------------------------------------------------------- sync
def sync_run(folder: Path) -> dict[str, Any]:
    """Send the stages of a run to W&B from their local logs: what the server has is not sent twice.

    Raises UserError where there is no key or nothing to send, OutsideError where W&B does not answer in time.
    """
    recipe = load_run_yaml(folder)
    sent: dict[str, Any] = {}
    for name in recipe.order():
        manifest = load_manifest(folder / name)
        if manifest is not None and manifest.status != "running":
            sent[name] = _sync_stage(recipe, folder, name, manifest)
    if not sent:
        raise UserError(f"{folder}: no stage has ended; nothing to send")
    return {"run": recipe.run, "project": recipe.track.project, "stages": sent}


def _sync_stage(recipe: Recipe, folder: Path, name: str, manifest: Manifest) -> dict[str, Any]:
    import wandb

    from openr1.metrics.wandb_run import WandbTracker

    track = recipe.track.model_copy(update={"mode": "online"})
    config = tracked_config(recipe, name, manifest)
    command = f"openr1 sync {shlex.quote(str(folder))}"
    try:
        tracker = WandbTracker(track, folder / name, recipe.run, name, manifest.key, config, command, strict=True)
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as e:
        raise UserError(f"W&B takes no data without a key ({first_line(e)}): run `wandb login`") from e
    except wandb.errors.Error as e:
        raise OutsideError(f"W&B does not answer ({first_line(e)}); later: {command}") from e
    rows = [row for row in read_metrics(folder / name / "metrics.jsonl") if row["step"] >= tracker.there]
    for row in rows:
        tracker.log(row["step"], row)
    try:
        finish_stage_tracker(tracker, recipe, folder, name, manifest)
    except TimeoutError as e:
        raise OutsideError(f"{e}; go on with: {command}") from e
    return {"steps": len(rows), "url": tracker.url}
