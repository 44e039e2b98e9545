"""The validated recipe, and `run.yaml`, the file that every process of a run reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from openr1.config.cluster import ClusterSettings
from openr1.config.graph import graph_problems, ordered
from openr1.config.problems import (
    block_problems,
    claim_problems,
    stage_problems,
    validation_lines,
    without_unknown,
)
from openr1.errors import UserError, did_you_mean
from openr1.evaluate.settings import ClaimSettings
from openr1.manifest import write_atomic
from openr1.metrics import TrackSettings
from openr1.settings import Settings
from openr1.stages.settings import KINDS, AnyStage, StageSettings, name_problem

RUN_YAML = "run.yaml"
LONGEST_RUN_NAME = 200


class Recipe(Settings):
    """A recipe as composed: its stages, where they run, and the claims that its report puts to the test.

    `clusters` names the choices of `cluster` that it is meant for.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"cluster", "clusters", "track", "run", "claims"})

    recipe: str
    description: str = ""
    run: str
    seed: int = Field(ge=0)
    cluster: ClusterSettings
    clusters: list[str] = []
    track: TrackSettings
    claims: list[ClaimSettings] = []
    stages: dict[str, AnyStage] = Field(min_length=1)

    def order(self) -> list[str]:
        """Stages so that each comes after what it reads, otherwise as the recipe lists them."""
        return ordered(self.stages)


def run_problem(run: str) -> str | None:
    """Why a run cannot be called so, or None. A name with a slash is a path."""
    parts = run.rstrip("/").split("/")
    if parts[-1] in ("", ".", ".."):
        return f"run={run}: names no folder; write run=NAME, or a path that ends in a name"
    if not run.isprintable():
        return f"run={run!r}: holds a control character; write run=NAME"
    if (longest := max(map(len, parts))) > LONGEST_RUN_NAME:
        return f"run={run[:20]}…: a name of {longest} characters; use at most {LONGEST_RUN_NAME}"
    return None


def validate(tree: dict[str, Any]) -> Recipe:
    """The recipe of a composed tree, or a UserError with every problem found, one line each."""
    problems: list[str] = []
    fields = Recipe.model_fields
    for key in tree:
        if key not in fields:
            problems.append(f"{key}: no such key; {did_you_mean(key, fields)}")
    tree = {k: v for k, v in tree.items() if k in fields}
    blocks = tree.pop("stages", None) or {}
    if not isinstance(blocks, dict):
        problems.append(f"stages: {blocks!r} is no map of stages; write `stages: {{NAME: {{…}}}}`")
        blocks = {}
    stages = _stages(blocks, problems)
    invalid = set(blocks) - set(stages)
    try:
        shell = Recipe.model_validate({**tree, "stages": stages or {"none": _nothing()}})
    except ValidationError as e:
        problems += validation_lines(e, Recipe)
        shell = None
    if shell is not None and (wrong := run_problem(shell.run)):
        problems.append(wrong)
    problems += graph_problems(stages, invalid)
    problems += stage_problems(stages)
    if shell is not None and not invalid:
        problems += claim_problems(shell.claims, stages)
    if not stages and not problems:
        problems.append("stages: the recipe has none; add one")
    if problems or shell is None:
        raise UserError(*dict.fromkeys(problems))
    return shell


def _stages(tree: dict[str, Any], problems: list[str]) -> dict[str, StageSettings]:
    """Each stage validated by its own kind, so that one bad stage does not hide another's problems."""
    out: dict[str, StageSettings] = {}
    for name, block in tree.items():
        where = f"stages.{name}"
        if wrong := name_problem(name):
            problems.append(f"stages: {wrong}")
        elif not isinstance(block, dict) or "kind" not in block:
            known = [n for n, b in tree.items() if isinstance(b, dict) and "kind" in b]
            problems.append(f"{where}: no such stage; {did_you_mean(name, known)}")
        elif not isinstance(block["kind"], str) or block["kind"] not in KINDS:
            near = did_you_mean(block["kind"], KINDS)
            problems.append(f"{where}.kind: {block['kind']!r} is no kind of stage; {near}")
        else:
            settings = _stage(block, where, problems)
            if settings is not None:
                out[name] = settings
    return out


def _stage(block: dict[str, Any], where: str, problems: list[str]) -> StageSettings | None:
    """A stage's settings. Keys that nobody knows are reported and left out, so that the rest is judged as well."""
    kind = block["kind"]
    try:
        return TypeAdapter(KINDS[kind]).validate_python(block)
    except ValidationError as e:
        problems += validation_lines(e, KINDS[kind], where)
        rest = without_unknown(block, e)
    try:
        return TypeAdapter(KINDS[kind]).validate_python(rest)
    except ValidationError:
        problems += block_problems(kind, rest, where)
        return None


def _nothing() -> dict[str, Any]:
    """A stand-in that lets the other keys be checked when no stage is valid."""
    return {"kind": "verify", "seed": 0}


def save_run_yaml(recipe: Recipe, folder: Path) -> None:
    """Write the recipe as composed, once for all processes of the run."""
    head = "# The recipe as composed; every process of this run reads it. Change settings on the command line.\n"
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    write_atomic(folder / RUN_YAML, head + text)


def load_run_yaml(folder: Path) -> Recipe:
    """The recipe of a run's folder."""
    path = folder / RUN_YAML
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise UserError(f"{folder}: holds no {RUN_YAML}; name a run made by `openr1 run`") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        why = " ".join(str(e).split())[:200]
        raise UserError(f"{path}: not readable as YAML ({why}); run the recipe again") from e
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no settings; run the recipe again")
    try:
        return validate(tree)
    except UserError as e:  # written by another version, or by hand
        raise UserError(*(f"{path}: {problem}" for problem in e.problems)) from e
