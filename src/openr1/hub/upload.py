"""`openr1 publish`: who may, from what, the folder, and on its way; checkpoints as branches of the repository."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.hub.licences import UNKNOWN, origins_of
from openr1.hub.publish import PublishPlan, publish_folder
from openr1.hub.remote import Remote, bounded_calls
from openr1.hub.select import choose_stage
from openr1.hub.send import Sent, propose, send
from openr1.hub.settings import Publication, RepoType
from openr1.report.load import load_run
from openr1.train.checkpoints import checkpoints_of, verified

logger = logging.getLogger("openr1")

FIRST_SECONDS = 10.0  # that a call may stay without a byte before anything is there to publish


@dataclass(frozen=True)
class Published:
    """A plan and what became of it, and the same of every checkpoint."""

    plan: PublishPlan
    sent: Sent
    private: bool
    checkpoints: list[tuple[PublishPlan, Sent]]

    def as_json(self) -> dict[str, Any]:
        pairs = [asdict(p) | {"sent": asdict(s)} for p, s in self.checkpoints]
        return asdict(self.plan) | {"sent": asdict(self.sent), "private": self.private, "checkpoints": pairs}


def publish(run_dir: Path, ask: Publication, out_dir: Path) -> Published:
    """Write the folder and send it. Raises UserError for what the user can mend, OutsideError where the Hub fails.

    A repository that is not there is created private, and opened only when everything in it was read back.
    """
    problems = ask.problems()
    if problems:
        raise UserError(*problems)
    with bounded_calls():
        remote = Remote(ask.repo, ask.type)
        seen = _permitted(remote, ask)
        ask = replace(ask, licences=_licences(remote, run_dir, ask))
        plan = publish_folder(run_dir, ask, out_dir)
        others = _checkpoint_plans(run_dir, ask, out_dir) if ask.checkpoints else []
        if seen is None:
            remote.create()
        title = f"Publish {plan.stage} of run {run_dir.name}"
        sent = propose(remote, plan, title) if ask.pull else send(remote, plan, title)
        pairs = [(p, send(remote, p, f"{title}, step {p.step}", f"checkpoint-{p.step}")) for p in others]
        if ask.public and seen != "public" and not ask.pull:
            remote.make_public()
    return Published(plan, sent, not ask.public, pairs)


def ask_first(ask: Publication) -> None:
    """Raise UserError where the Hub would refuse whoever publishes here, OutsideError where it does not answer.

    For before the work begins whose result is to be published: one try, and a short wait.
    """
    with bounded_calls(FIRST_SECONDS):
        _permitted(Remote(ask.repo, ask.type, tries=1), ask)


def _permitted(remote: Remote, ask: Publication) -> str | None:
    """Whether the repository is private or public, None: not there; UserError where this may not be sent to it."""
    remote.may_write(ask.pull)
    seen = remote.visibility()
    if seen == "public" and not ask.public:
        raise UserError(f"{remote.name} is public: everyone could read what goes there; say --public if they may")
    if seen is None and ask.pull:
        raise UserError(f"{remote.name}: there is no such repository to propose a change to")
    return seen


def _licences(remote: Remote, run_dir: Path, ask: Publication) -> Mapping[str, str]:
    """Licences of the sources by id: what the user says, else what their cards on the Hub say."""
    run = load_run(run_dir)
    stage = choose_stage(run, ask.stage, ask.type)
    known = dict(ask.licences)
    for origin in origins_of(run.lineage(stage.name), known):
        if origin.licence == UNKNOWN and origin.kind in ("dataset", "model"):
            type: RepoType = "dataset" if origin.kind == "dataset" else "model"
            found = remote.licence_of(origin.id, type)
            if found:
                known[origin.id] = found
    return known


def _checkpoint_plans(run_dir: Path, ask: Publication, out_dir: Path) -> list[PublishPlan]:
    """A folder of every whole checkpoint of the stage. They are linked: pruning one does not take its files away."""
    run = load_run(run_dir)
    stage = choose_stage(run, ask.stage, ask.type)
    found = [c for c in checkpoints_of(stage.folder) if verified(c)]
    if not found:
        raise UserError(f"stage {stage.name} keeps no checkpoints; publish it without --checkpoints")
    folders = [out_dir.with_name(f"{out_dir.name}--{c.name}") for c in found]
    return [publish_folder(run_dir, ask, folder, c) for folder, c in zip(folders, found, strict=True)]
