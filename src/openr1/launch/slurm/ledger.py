"""`slurm.json` in a run's folder: which jobs were submitted for which stage, so that their end can be told later."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from openr1.errors import UserError
from openr1.manifest import write_json

LEDGER = "slurm.json"


@dataclass(frozen=True)
class Submitted:
    """One job as it was submitted: `after` are the ids of the jobs that it waited for, `tasks` those of an array for
    so many `shards`, `minutes` its limit."""

    stage: str
    part: str
    job: str
    after: list[str]
    tasks: list[int]
    shards: int
    minutes: int
    at: str


def load_ledger(folder: Path) -> list[Submitted]:
    """What was submitted for a run, the oldest first; empty where nothing was."""
    path = folder / LEDGER
    try:
        return [Submitted(**row) for row in json.loads(path.read_text(encoding="utf-8"))["jobs"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: not readable ({e}); move it away, and submit again") from e


def add_to_ledger(folder: Path, jobs: Iterable[Submitted]) -> None:
    """Keep what has just been submitted."""
    write_json(folder / LEDGER, {"jobs": [asdict(job) for job in [*load_ledger(folder), *jobs]]})
