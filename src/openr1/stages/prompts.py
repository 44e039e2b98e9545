"""Stage `prompts`: the splits of a task, audited and disjoint from every held-out split."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from openr1.records import PROMPT_SCHEMA
from openr1.stages.base import Output, StageContext, StageResult, write_rows
from openr1.stages.settings import PromptsStage

DROPPED_SCHEMA = pa.schema([(name, pa.string()) for name in ("prompt_id", "split", "reason", "example")])


def run(ctx: StageContext) -> StageResult:
    from openr1.tasks import build_splits

    settings: PromptsStage = ctx.settings
    built = build_splits(settings.task, settings.splits, settings.seed)
    outputs: dict[str, Output] = {}
    for name, prompts in built.splits.items():
        rows = write_rows(ctx.partial(name), prompts, PROMPT_SCHEMA)
        outputs[name] = Output("prompts", rows.rows)
    dropped = write_rows(ctx.partial("dropped"), built.dropped, DROPPED_SCHEMA)
    outputs["dropped"] = Output("dropped", dropped.rows)
    kept = sum(len(p) for p in built.splits.values())
    return StageResult(
        outputs,
        counts={
            "in": kept + len(built.dropped),
            "out": kept,
            "splits": {name: len(p) for name, p in built.splits.items()},
            "dropped": dict(Counter(d.reason for d in built.dropped)),
        },
        results={"sources": built.sources} if built.sources else {},
    )
