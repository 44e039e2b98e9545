"""The nodes of the job that this process belongs to, the first of which it runs on; without a job, this machine."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from openr1.manifest import write_atomic
from openr1.nodes.base import Node
from openr1.nodes.local import LocalNode
from openr1.nodes.remote import RemoteNode

VARIABLE = "OPENR1_NODES"  # names the file that `write_nodes` wrote


def current_nodes() -> list[Node]:
    """All nodes of the job, this one first."""
    path = os.environ.get(VARIABLE)
    return list(_read(path)) if path else [LocalNode()]


@cache
def _read(path: str) -> tuple[Node, ...]:
    raw = json.loads(Path(path).read_text(encoding="utf-8"))
    first, *others = raw["nodes"]
    here = LocalNode(first["name"], first["address"], first["interface"], first["gpus"], raw["job"])
    return (here, *(RemoteNode(card, raw["job"]) for card in others))


def write_nodes(path: Path, job: str, cards: list[dict[str, Any]]) -> None:
    """The file for the processes of the first node; only the user can read it."""
    write_private(path, {"job": job, "nodes": cards})


def write_private(path: Path, value: Any) -> None:
    """JSON that only the user can read, there at once or not at all."""
    before = os.umask(0o077)
    try:
        write_atomic(path, json.dumps(value))
    finally:
        os.umask(before)
