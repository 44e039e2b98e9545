"""Stage `publish`: what its inputs hold goes to the Hub, as `openr1 publish` sends it."""

from __future__ import annotations

from openr1.hub import publish
from openr1.stages.base import Output, StageContext, StageResult
from openr1.stages.settings import PublishStage


def run(ctx: StageContext) -> StageResult:
    settings: PublishStage = ctx.settings
    ask = settings.publication({name: given.kind for name, given in ctx.inputs.items()})
    done = publish((ctx.stage_folder or ctx.folder).parent, ask, ctx.partial("sent"))
    plan, sent = done.plan, done.sent
    told = {
        "repo": plan.repo, "type": plan.type, "of": plan.stage, "url": sent.url, "commit": sent.commit,
        "revision": sent.revision, "private": done.private, "licence": plan.licence, "rows": plan.rows,
        "checkpoints": {p.step: s.commit for p, s in done.checkpoints},
    }  # fmt: skip
    return StageResult(
        {"sent": Output("published")},
        counts={"files": len(plan.files), "bytes": plan.bytes, "changed": sent.changed},
        results={"published": told},
    )
