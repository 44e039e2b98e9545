"""Which stage of a run is published."""

from __future__ import annotations

from collections.abc import Collection

from openr1.errors import UserError, did_you_mean
from openr1.hub.settings import DATASET_KINDS, RepoType
from openr1.report.load import Run, Stage


def publishable(stage: Stage, type: RepoType, only: Collection[str] = ()) -> dict[str, dict[str, object]]:
    """The outputs of a stage that can be published as `type`, by name; with `only`, those of them."""
    kinds = DATASET_KINDS if type == "dataset" else ("model",)
    outputs = stage.manifest.outputs if stage.manifest else {}
    found = {name: out for name, out in outputs.items() if isinstance(out, dict) and out.get("kind") in kinds}
    found = {name: out for name, out in found.items() if not only or name in only}
    return dict(sorted(found.items(), key=lambda item: kinds.index(str(item[1]["kind"]))))


def choose_stage(run: Run, name: str | None, type: RepoType) -> Stage:
    """The stage `name`; without one the only `curate` stage, or the model that no other stage goes on from.

    Raises UserError where there is none, or several (named), or where it is not done.
    """
    stage = _named(run, name) if name is not None else _only(run, type)
    if not stage.done:
        raise UserError(f"stage {stage.name} of run {run.name} is {stage.status}; run it to its end first")
    if not publishable(stage, type):
        able = [s.name for s in run.stages if s.done and publishable(s, type)]
        hint = f"stages that do: {', '.join(able)}" if able else "no stage of this run does"
        raise UserError(f"stage {stage.name} makes nothing to publish as a {type}; {hint}")
    return stage


def _named(run: Run, name: str) -> Stage:
    stage = run.stage(name)
    if stage is None:
        raise UserError(f"run {run.name} has no stage {name!r}; {did_you_mean(name, [s.name for s in run.stages])}")
    return stage


def _only(run: Run, type: RepoType) -> Stage:
    if type == "dataset":
        found = [s for s in run.stages if s.kind == "curate"]
        what = "curate stage"
    else:
        made = [s for s in run.stages if s.done and publishable(s, "model")]
        gone_on_from = {n for s in made for n in s.upstream()}
        found = [s for s in made if s.name not in gone_on_from]
        what = "finished model"
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"run {run.name} has no {what}; name a stage with --stage")
    raise UserError(f"run {run.name} has several: {', '.join(s.name for s in found)}; name one with --stage")
