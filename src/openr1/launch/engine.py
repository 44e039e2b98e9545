"""Runs one stage of a run: lock, manifest, logs, inputs, the stage's function, outputs into place.

The manifest says `running` from the start, `done` only after every output is in place, and `failed` with the reason
when the stage raised. A killed process leaves `running` and no lock; the next attempt goes on from what is there.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openr1.config.recipe import Recipe
from openr1.errors import OpenR1Error, Terminated, UserError
from openr1.launch.key import growth_of, identity_of, input_hashes, key_of
from openr1.launch.plan import Step, settled
from openr1.launch.shards import StageLock, begun, earlier_attempts, said_before, shard_folder, totals
from openr1.launch.tracking import finish_stage_tracker, open_stage_tracker
from openr1.log import log_file, logger
from openr1.manifest import Manifest, git_state, hash_path, load_manifest, move_aside, package_versions
from openr1.metrics import MetricLog
from openr1.stages.base import PARTIAL, Input, StageContext, StageResult, finish_outputs
from openr1.stages.registry import stage_function
from openr1.stages.settings import StageSettings
from openr1.store import Shard
from openr1.train.vllm_rollouts import mode_of

OF_A_JOB = ("job.sbatch", "shards.sbatch", "logs/slurm")
COMMAND = "OPENR1_COMMAND"  # the command that the user typed, for the processes that carry it out


def run_stage(recipe: Recipe, folder: Path, step: Step, capture: bool = False) -> Manifest:
    """Bring one stage to `done`, as its step says. `folder` is the run's; the inputs must be there.

    With `capture`, what the process prints from here on, C libraries included, goes to the attempt's `output.log`.
    """
    name = step.stage
    shard = Shard.parse(step.shard) if step.shard else None
    with StageLock(folder, name, recipe.run, shard):
        settings = recipe.stages[name]
        hashes = input_hashes(recipe, folder, name)
        if hashes is None:
            raise RuntimeError(f"{name}: its inputs are not there")
        place = _Place(folder / name, shard)
        manifest = load_manifest(place.folder)
        there = begun(folder / name) if shard is None else None
        if step.action == "after" and there is not None:
            step = settled(settings, there, hashes, folder / name)
            logger.info("%s: %s (%s)", name, step.action, step.why)
        if step.action == "refuse":
            raise UserError(step.why)
        if manifest is not None and step.action == "skip":
            return manifest
        if step.aside and (folder / name).exists():
            _set_aside(folder / name)
            manifest = None
        return _execute(recipe, folder, name, settings, hashes, manifest, place, capture)


def _set_aside(stage: Path) -> None:
    """The output of a stage to `<stage>.old-N`; what belongs to the Slurm job that is at it stays where it is."""
    aside = move_aside(stage)
    for name in OF_A_JOB:
        if (aside / name).exists():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).rename(stage / name)


@dataclass(frozen=True)
class _Place:
    """Where an attempt keeps its account: the stage's folder, or the one of a shard inside it."""

    stage_folder: Path
    shard: Shard | None

    @property
    def folder(self) -> Path:
        return shard_folder(self.stage_folder, self.shard) if self.shard else self.stage_folder

    @property
    def rows(self) -> Path:
        """Where the attempt's new rows go."""
        store = self.stage_folder / "store"
        return store / f"shard-{self.shard.name}" if self.shard else store


def _execute(
    recipe: Recipe,
    folder: Path,
    name: str,
    settings: StageSettings,
    hashes: Mapping[str, str],
    before: Manifest | None,
    place: _Place,
    capture: bool,
) -> Manifest:
    earlier = said_before(folder / name, before) if settings.kind in ("generate", "benchmark") else {}
    manifest = _begin(name, settings, hashes, before, place)
    attempt = place.folder / "logs" / f"attempt_{manifest.attempt}"
    if capture:
        redirect_output(attempt / "output.log")
    tracker = None
    started = time.monotonic()
    with log_file(attempt / "stage.log"):
        try:
            if place.shard is None:  # shards run side by side; the stage's run on W&B is that of their sum
                tracker = open_stage_tracker(recipe, folder, name, manifest)
            metrics = MetricLog(place.folder / "metrics.jsonl", tracker)
            inputs = resolved_inputs(recipe, folder, name, hashes)
            context = StageContext(
                recipe.run, name, place.folder, settings, inputs, metrics, place.shard, folder / name, earlier,
                logs=attempt,
            )  # fmt: skip
            result = _work(recipe, folder, context, attempt)
            _finish(manifest, place.folder, result)
        except BaseException as e:
            _failed(manifest, e)
            raise
        finally:
            _account(manifest, settings, time.monotonic() - started)
            manifest.save(place.folder)
            if tracker is not None and manifest.status != "running":  # after the manifest: tracking decides nothing
                finish_stage_tracker(tracker, recipe, folder, name, manifest)
    return manifest


def _work(recipe: Recipe, folder: Path, context: StageContext, attempt: Path) -> StageResult:
    """The stage's function, here or on the processes that its `parallel` asks for.

    vLLM leaves a process group, an environment and a GPU's memory behind: training with it never happens here.
    """
    settings = context.settings
    alone = getattr(settings, "parallel", None) is None or settings.parallel.kind == "single"
    if alone and mode_of(getattr(settings, "train", {})) is None:
        return stage_function(settings.kind)(context)
    from openr1.launch.ranks import run_ranks

    return run_ranks(recipe, folder, context, attempt)


def _begin(
    name: str, settings: StageSettings, hashes: Mapping[str, str], before: Manifest | None, place: _Place
) -> Manifest:
    manifest = Manifest(
        stage=name,
        kind=settings.kind,
        key=key_of(settings, hashes),
        identity=identity_of(settings),
        growth=growth_of(settings, hashes),
        settings=settings.model_dump(mode="json"),
        inputs={n: {"ref": ref, "hash": hashes[n]} for n, ref in settings.inputs.items()},
        attempt=(before.attempt if before else 0) + 1,
        attempts=earlier_attempts(before, place.folder, place.rows),
        shards=[] if place.shard else totals(place.stage_folder),
        started_at=time.time(),
        versions=package_versions(),
        git=git_state(),
        command=json.loads(os.environ.get(COMMAND, "null")) or list(sys.argv),
        host=os.uname().nodename,
    )
    manifest.total_seconds = _all_seconds(manifest)
    partial = place.folder / PARTIAL
    if partial.exists():
        shutil.rmtree(partial)
    manifest.save(place.folder)
    return manifest


def resolved_inputs(recipe: Recipe, folder: Path, name: str, hashes: Mapping[str, str]) -> dict[str, Input]:
    """The inputs of a stage as they lie there; they must be done."""
    out = {}
    for key, ref in recipe.stages[name].inputs.items():
        source, _, output = ref.partition("/")
        manifest = load_manifest(folder / source)
        assert manifest is not None
        made = manifest.outputs[output]
        out[key] = Input(ref, folder / source / made["path"], made["kind"], hashes[key])
    return out


def _finish(manifest: Manifest, folder: Path, result: StageResult) -> None:
    for name, path in finish_outputs(folder, result.outputs):
        output = result.outputs[name]
        manifest.outputs[name] = {
            "path": name,
            "kind": output.kind,
            "hash": output.hash or hash_path(path),
            "rows": output.rows,
        }
    manifest.counts, manifest.tokens = result.counts, result.tokens
    manifest.results, manifest.phases = result.results, result.phases
    manifest.status, manifest.exit = "done", {"code": 0}


def _failed(manifest: Manifest, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        manifest.exit = {"code": 130, "reason": "interrupted from the keyboard"}
        return
    if isinstance(error, Terminated):
        manifest.exit = {"code": error.exit_code, "reason": str(error)}
        return
    logging.getLogger().error("stage %s failed", manifest.stage, exc_info=error)
    first = str(error).strip().splitlines() or [type(error).__name__]
    known = isinstance(error, OpenR1Error)
    manifest.status = "failed"
    manifest.exit = {
        "code": error.exit_code if isinstance(error, OpenR1Error) else 1,
        "reason": first[0] if known else f"{type(error).__name__}: {first[0]}",
    }


def _account(manifest: Manifest, settings: StageSettings, seconds: float) -> None:
    manifest.seconds = round(seconds, 3)
    ended = manifest.exit.get("reason", manifest.status)
    manifest.attempts.append({"attempt": manifest.attempt, "seconds": manifest.seconds, "exit": ended})
    manifest.total_seconds = _all_seconds(manifest)
    own = settings.resources.gpus * settings.resources.nodes * sum(a["seconds"] for a in manifest.attempts) / 3600
    manifest.gpu_hours = round(own + sum(s["gpu_hours"] for s in manifest.shards), 6)
    manifest.peak_memory_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _all_seconds(manifest: Manifest) -> float:
    """Wall-clock of all attempts, and of the tasks that shared the work."""
    return round(sum(float(a["seconds"]) for a in (*manifest.attempts, *manifest.shards)), 3)


def redirect_output(path: Path) -> None:
    """Standard output and error of this process, C libraries included, to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
