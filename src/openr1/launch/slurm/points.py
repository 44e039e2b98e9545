"""From the words of `openr1 submit` to queued chains: one run, or one for each point of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openr1.errors import UserError
from openr1.launch.evaluation import whole_lists
from openr1.launch.slurm.submit import Prepared, prepare, submit_all, write_scripts
from openr1.launch.slurm.sweep import sweep_points
from openr1.launch.words import asked_stages, compose, split_words


def submit_words(words: Sequence[str], dry_run: bool = False) -> list[dict[str, Any]]:
    """Compose, check and submit; the document of every run. Nothing is queued where anything of any run is wrong."""
    own, settings = split_words(words)
    if "shard" in own:
        raise UserError(
            f"shard={own['shard']}: submit makes the shards, stages.<stage>.resources.shards=N; leave it out"
        )
    if own.get("recipe") == "evaluate":
        settings = whole_lists(settings)
    points = sweep_points(settings, own.get("run") or own.get("recipe", ""))
    rest = [f"{key}={value}" for key, value in own.items() if key != "run"]
    named = len(points) > 1 or "run" in own
    runs: list[Prepared] = []
    for name, at in points:
        recipe, mine = compose([*rest, *([f"run={name}"] if named else []), *at])
        if len(points) > recipe.cluster.max_points:
            most = recipe.cluster.max_points
            raise UserError(
                f"the sweep has {len(points)} points, cluster.max_points allows {most}; sweep less, or raise it"
            )
        runs.append(prepare(recipe, *asked_stages(recipe, mine), dry_run=dry_run))
    if not dry_run:
        return submit_all(runs)
    for run in runs:
        write_scripts(run, dry_run=True)
    return [run.document() for run in runs]
