"""One of the processes that train a stage together: `python -m openr1.launch.rank RUN_FOLDER STAGE`.

Who it is stands in the environment, as torchrun sets it: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT;
without them it trains alone. It
answers on what was its standard output, one JSON object a line with its `rank`: how the stage ended and, from rank 0,
progress, messages, metrics and the stage's result. What it and its libraries print goes to `rank-N.log` in `--logs`.
The process that owns the stage (its lock, its manifest) has started it, here or through the agent of another node; it
dies with whoever OPENR1_PARENT names.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from openr1.config.recipe import load_run_yaml
from openr1.errors import UserError
from openr1.launch.child import PipeSink, die_with_parent, failure, hold_save_signal
from openr1.launch.engine import redirect_output, resolved_inputs
from openr1.launch.key import input_hashes
from openr1.log import log_file, setup_logging
from openr1.metrics import MetricLog, TrackedArtifact, TrackedTable
from openr1.nodes.base import PARENT
from openr1.stages.base import StageContext, StageResult
from openr1.stages.registry import stage_function
from openr1.stages.settings import StageSettings


class RankSink(PipeSink):
    """The pipe to the owner; of progress and messages only those of rank 0 are sent."""

    def __init__(self, out: TextIO, rank: int) -> None:
        super().__init__(out)
        self.rank = rank

    def send(self, **message: Any) -> None:
        if self.rank == 0 or message["event"] in ("failed", "done"):
            super().send(rank=self.rank, **message)


class SentMetrics:
    """A tracker at the other end of the pipe: the owner has the real one."""

    def __init__(self, sink: RankSink) -> None:
        self.sink = sink

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self.sink.send(event="metrics", step=step, values=dict(values))

    def alert(self, title: str, text: str) -> None:
        self.sink.send(event="alert", title=title, text=text)

    def describe(self, artifacts: Sequence[TrackedArtifact], tables: Sequence[TrackedTable]) -> None:
        """The owner describes."""

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        """The owner finishes."""


class NoMetrics(MetricLog):
    """The metric log of every rank but the first: it keeps nothing."""

    def __init__(self, path: Path) -> None:
        self.path, self.tracker = path, None

    def resume_from(self, step: int) -> None:
        """Nothing is kept."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing is kept."""


def main() -> None:
    asked = _arguments()
    if parent := os.environ.get(PARENT):  # torchrun, for one, does not say
        die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner is interrupted as well, and ends its ranks
    hold_save_signal()
    rank = int(os.environ.get("RANK", "0"))
    sink = RankSink(os.fdopen(os.dup(1), "w", encoding="utf-8"), rank)
    log = asked.logs / f"rank-{rank}.log"
    redirect_output(log)
    setup_logging(logging.INFO, sink)
    with log_file(log):
        try:
            result = _run(asked, rank, sink)
        except BaseException as e:
            logging.getLogger().error("rank %d failed", rank, exc_info=e)
            sink.send(**failure(e, asked.stage, asked.run))
            sys.exit(1)
    sink.send(event="done", peak_memory_mb=_peak(), result=asdict(result) if rank == 0 else None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m openr1.launch.rank", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("stage")
    parser.add_argument("--settings", type=Path, help="the folder of the run.yaml to read, by default the run's")
    parser.add_argument("--model", type=Path, help="the folder of the model to train, where the owner prepared it")
    parser.add_argument("--logs", type=Path, required=True)
    return parser.parse_args()


def _run(asked: argparse.Namespace, rank: int, sink: RankSink) -> StageResult:
    """The stage's own function, with what the engine gives it."""
    recipe = load_run_yaml(asked.settings or asked.run)
    settings = recipe.stages[asked.stage]
    _check_world(asked.stage, settings)
    hashes = input_hashes(recipe, asked.run, asked.stage)
    if hashes is None:
        raise RuntimeError(f"{asked.stage}: its inputs are not there")
    folder = asked.run / asked.stage
    path = folder / "metrics.jsonl"
    context = StageContext(
        run=recipe.run,
        name=asked.stage,
        folder=folder,
        settings=settings,
        inputs=resolved_inputs(recipe, asked.run, asked.stage, hashes),
        metrics=MetricLog(path, SentMetrics(sink)) if rank == 0 else NoMetrics(path),
        model_dir=asked.model,
        logs=asked.logs,
    )
    try:
        return stage_function(settings.kind)(context)
    finally:
        _leave()


def _check_world(stage: str, settings: StageSettings) -> None:
    """Raise UserError where other processes have been started than the stage asks for."""
    wanted, found = getattr(settings, "world_size", 1), int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != found:
        raise UserError(f"{stage}: {wanted} processes were asked for, {found} were started; start {wanted}")


def _leave() -> None:
    """Leave the process group while the others are still there."""
    from torch import distributed

    if distributed.is_initialized() and sys.exc_info()[0] is None:
        distributed.destroy_process_group()


def _peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
