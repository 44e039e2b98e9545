"""provenance.json: where every file comes from, stage by stage, without what only this machine knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from openr1.hub.licences import Origin
from openr1.hub.settings import Publication
from openr1.report.load import Run, Stage

SCHEMA = 1
# homes of others stay, for the scan to stop at them
ABSOLUTE = re.compile(r"(?<![\w:/.~])/(?!home/|Users/|root/)(?:[\w.@+-]+/)+([\w.@+-]+)")
KEPT = ("inputs", "settings", "outputs", "counts", "tokens", "results", "gpu_hours", "versions", "git", "command")


def provenance(
    run: Run,
    stage: Stage,
    ask: Publication,
    files: Mapping[str, Mapping[str, Any]],
    origins: Sequence[Origin],
    licence: str,
) -> dict[str, Any]:
    """One publication, by name, in a list: a repository may hold several. No host, no absolute path, no clock."""
    record = {
        "name": f"{ask.prefix}{stage.name}",
        "type": ask.type,
        "run": run.name,
        "recipe": run.recipe,
        "seed": run.seed,
        "stage": stage.name,
        "licence": licence,
        "sources": [vars(o) for o in origins],
        "files": dict(files),
        "stages": [_told(s) for s in run.lineage(stage.name) if s.manifest is not None],
    }
    return {"schema": SCHEMA, "publications": [without_paths(record)]}


def _told(stage: Stage) -> dict[str, Any]:
    m = stage.manifest
    assert m is not None
    known = {"stage": stage.name, "kind": m.kind, "key": m.key, "seconds": m.total_seconds or m.seconds}
    return known | {name: getattr(m, name) for name in KEPT}


def without_paths(value: Any) -> Any:
    """`value` with the home folder written as ~ in every string, and other absolute paths cut to their last part:
    where a file lay here helps nobody else."""
    if isinstance(value, dict):
        return {k: without_paths(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    if not isinstance(value, str):
        return value
    home = str(Path.home())
    text = value.replace(home + "/", "~/") if len(home) > 1 else value
    return ABSOLUTE.sub(lambda m: f"…/{PurePosixPath(m.group()).name}", text)
