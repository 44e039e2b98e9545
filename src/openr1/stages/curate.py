"""Stage `curate`: an SFT set, an RL set, every generation with its verdicts, and what was dropped and why."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openr1.curate.chain import run_steps
from openr1.curate.describe import describe
from openr1.curate.ledger import Ledger
from openr1.curate.outputs import Sets
from openr1.curate.settings import MixStep
from openr1.curate.source import COMPLETION_COLUMNS, VERDICT_COLUMNS, Prompts, read_sources
from openr1.errors import UserError
from openr1.stages.base import Output, StageContext, StageResult, completion_store, verdict_store
from openr1.stages.settings import CurateStage

logger = logging.getLogger("openr1")

BATCH_ROWS = 4_096  # of a store, read at once


def run(ctx: StageContext) -> StageResult:
    settings: CurateStage = ctx.settings
    with TemporaryDirectory(dir=ctx.partial("scratch")) as scratch:
        return _curate(ctx, settings, Path(scratch))


def _curate(ctx: StageContext, settings: CurateStage, work: Path) -> StageResult:
    steps, started = settings.curate.steps, time.monotonic()
    sources = {s.source for s in steps if isinstance(s, MixStep)}
    prompts = Prompts(ctx.path("data"), work, sources)
    completions = verdicts = None
    size = (0, 0)
    if "completions" in ctx.inputs:
        store = completion_store(ctx.path("completions"), {})
        size = _size(store.iter_tables(columns=["completion_tokens"]))
        completions = store.iter_tables(BATCH_ROWS, columns=COMPLETION_COLUMNS)
    if "verdicts" in ctx.inputs:
        verdicts = verdict_store(ctx.path("verdicts"), {}).iter_tables(BATCH_ROWS, columns=VERDICT_COLUMNS)
    try:
        buckets, ledger = read_sources(prompts, completions, verdicts, size, work)
    except UserError as e:
        raise UserError(*(f"{ctx.name}: {problem}" for problem in e.problems)) from e
    read = time.monotonic()
    told = run_steps(steps, prompts, buckets, ledger, settings.seed, work)
    if not len(ledger.left()) and not len(ledger.rl_left()):
        reasons = ", ".join(f"{r}: {n}" for r, n in sorted(ledger.reasons().items(), key=lambda i: -i[1])[:5])
        raise UserError(f"{ctx.name}: nothing is left of {len(ledger.prompt)} completions ({reasons})")
    stepped = time.monotonic()
    _say_empty(ctx, ledger)
    folders = {name: ctx.partial(name) for name in settings.outputs()}
    written = Sets(folders, settings.curate.parts(), prompts, ledger, settings.seed, work).write(buckets)
    kinds, written_at = settings.outputs(), time.monotonic()
    return StageResult(
        {name: Output(kinds[name], n) for name, n in written.items()},
        counts=_counts(ledger, written),
        results={
            "mean_pass_rate": _mean(ledger.pass_rate),
            "funnel": ledger.funnel,
            **describe(ledger),
            **({"steps": told} if told else {}),
        },
        phases={"read": read - started, "steps": stepped - read, "write": written_at - stepped},
    )


def _say_empty(ctx: StageContext, ledger: Ledger) -> None:
    """A set that has no rows is written, and said: what reads it will find nothing."""
    reasons = sorted(ledger.reasons().items(), key=lambda i: -i[1])
    sets = [("sft", len(ledger.prompt), len(ledger.left()), "completions")]
    sets += [("rl", len(ledger.ids), len(ledger.rl_left()), "prompts")]
    for name, n, left, unit in sets:
        if n and not left:
            why = ", ".join(f"{r}: {m}" for r, m in reasons if r.startswith("rl: ") == (name == "rl"))
            logger.warning("%s: %s is empty: none of %d %s is left (%s)", ctx.name, name, n, unit, why)


def _size(tables: Iterable[pa.Table]) -> tuple[int, int]:
    """Rows of a store, and their tokens."""
    rows = tokens = 0
    for table in tables:
        rows += table.num_rows
        tokens += pc.sum(table["completion_tokens"]).as_py() or 0
    return rows, tokens


def _counts(ledger: Ledger, written: dict[str, int]) -> dict[str, Any]:
    return {
        "in": len(ledger.prompt),
        "out": sum(n for name, n in written.items() if name.startswith("sft")),
        "prompts": len(ledger.ids),
        "rl": sum(n for name, n in written.items() if name.startswith("rl")),
        "dropped": ledger.reasons(),
    }


def _mean(rates: np.ndarray) -> float | None:
    found = rates[~np.isnan(rates)]
    return float(found.mean()) if len(found) else None
