"""Stage `verify`: a verdict for every completion of a store; what has one already is not graded again.

`follow` does the same while the store is still being filled, in a process of its own: whatever it has graded when the
stage begins, the stage need not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openr1.log import Progress
from openr1.stages.base import (
    Output,
    StageContext,
    StageResult,
    completion_store,
    refuse_other_versions,
    verdict_store,
)
from openr1.stages.grading import KEYS, Golds, Grader, Summary, completion_tables, set_stale_aside
from openr1.stages.settings import VerifyStage
from openr1.verify import prepare

logger = logging.getLogger("openr1")
FOLLOW_BATCH = 128  # completions that a kill has graded again
PAUSE = 2.0  # seconds between two looks at what has come


def run(ctx: StageContext) -> StageResult:
    settings: VerifyStage = ctx.settings
    golds, completions = Golds(ctx.path("data")), ctx.path("completions")
    graders = prepare(golds.verifiers())
    set_stale_aside(ctx.store, completions, store_identity(settings), ctx.name)
    asked = sum(_count(golds, t) for t in completion_store(completions, {}).iter_tables(65_536, KEYS))
    with verdict_store(ctx.store, store_identity(settings)) as store:
        refuse_other_versions(ctx.name, store)
        grader = Grader(golds, store, settings.workers)
        with Progress(ctx.name, asked) as bar:
            for table in completion_tables(completions):
                grader.grade(table)
                bar.advance(_count(golds, table))
        store.seal()
        found = Summary.of(store, golds)
        output = Output("verdicts", len(store), store.content_hash(), in_place=True)
    return StageResult(
        {"store": output},
        counts={"in": asked, "out": found.rows, "new": grader.new, "masked": found.masked},
        results={"by_status": dict(sorted(found.by_status.items())), "verifiers": sorted(found.verifiers)} | graders,
    )


def store_identity(settings: VerifyStage) -> dict[str, Any]:
    """What all verdicts of the stage's store share."""
    return {"stage": "verify", "version": settings.version}


def follow(
    name: str, settings: VerifyStage, folder: Path, data: Path, completions: Path, stop: Callable[[], bool]
) -> int:
    """Grade what appears in the store `completions` until `stop` says True; returns how many verdicts are new.

    `folder` is the verify stage's; its lock must be held. A kill loses the batch at hand, which the stage grades.
    """
    identity = store_identity(settings)
    golds = Golds(data)
    set_stale_aside(folder / "store", completions, identity, name)
    with verdict_store(folder / "store", identity) as store:
        refuse_other_versions(name, store)
        grader = Grader(golds, store, settings.workers)
        for tables in completion_store(completions, {}).tail(FOLLOW_BATCH):
            for table in tables:
                grader.grade(table)
                if stop():
                    return grader.new
            if _wait(stop):
                break
    return grader.new


def _wait(stop: Callable[[], bool]) -> bool:
    """Whether `stop` says True within a pause."""
    deadline = time.monotonic() + PAUSE
    while time.monotonic() < deadline:
        if stop():
            return True
        time.sleep(0.05)
    return stop()


def _count(golds: Golds, table: Any) -> int:
    return sum(p in golds for p in table["prompt_id"].to_pylist())
