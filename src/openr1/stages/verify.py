"""Stage `verify`: a verdict for every completion of a store; what has one already is not graded again."""

from __future__ import annotations

from collections import Counter

from openr1.log import Progress
from openr1.records import MASKED, prompts_by_id
from openr1.stages.base import (
    GradedRow,
    Output,
    StageContext,
    StageResult,
    read_completions,
    read_prompts,
    refuse_other_versions,
    verdict_store,
)
from openr1.stages.settings import VerifyStage

BATCH = 1024


def run(ctx: StageContext) -> StageResult:
    from openr1.verify import grade

    settings: VerifyStage = ctx.settings
    prompts = prompts_by_id(read_prompts(ctx.path("data")))
    completions = read_completions(ctx.path("completions"), prompts.values())
    with verdict_store(ctx.folder / "store", {"stage": "verify", "version": settings.version}) as store:
        refuse_other_versions(ctx.name, store)
        todo = [c for c in completions if c.key not in store]
        with Progress(ctx.name, len(todo)) as bar:
            for start in range(0, len(todo), BATCH):
                batch = todo[start : start + BATCH]
                of = [prompts[c.prompt_id] for c in batch]
                verdicts = grade(
                    gold=[p.answer for p in of],
                    completion=[c.text for c in batch],
                    verifier=[p.verifier for p in of],
                    info=[p.info for p in of],
                    finish_reason=[c.finish_reason for c in batch],
                    workers=settings.workers,
                )
                store.append([GradedRow.of(c.key, v) for c, v in zip(batch, verdicts, strict=True)])
                bar.advance(len(batch))
        store.seal()
        asked = {c.key for c in completions}
        rows = [r for r in store.rows() if (r.prompt_id, r.sample_index) in asked]
        output = Output("verdicts", len(store), store.content_hash(), in_place=True)
    by_status = Counter(r.status for r in rows)
    masked = sum(n for status, n in by_status.items() if status in MASKED)
    return StageResult(
        {"store": output},
        counts={"in": len(completions), "out": len(rows), "new": len(todo), "masked": masked},
        results={
            "by_status": dict(sorted(by_status.items())),
            "verifiers": sorted({f"{r.verifier} {r.version}".strip() for r in rows}),
        },
    )
