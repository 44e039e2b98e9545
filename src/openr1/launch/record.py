"""The account of a stage's jobs, `<run>/.jobs/<stage>/job.json` (launch.job.job_folder): what `openr1 status` reads.

The first node of a job writes it, every other process only reads. A job that Slurm ended without warning (a node that
died, an out-of-memory kill) leaves its last attempt at `running`: then `squeue` and `sacct` know more.

How `python -m openr1.launch.node` ends is what its sbatch file acts on:

    0    done; of the other nodes of a job: the first one has ended, with a code of its own
    1,3  failed; the reason is `attempts[-1].reason` and, where the stage had begun, the manifest's
    75   to go on in another attempt: `scontrol requeue`, unless Slurm is ending the job because it was cancelled.
         `exclude.txt` beside `job.json`, where not empty, is the list for `scontrol update … ExcNodeList=` after that
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from openr1.manifest import write_atomic, write_json

RECORD, EXCLUDE = "job.json", "exclude.txt"
REQUEUE = 75  # EX_TEMPFAIL of sysexits.h

State = Literal["starting", "running", "done", "failed", "requeue"]


@dataclass
class JobAttempt:
    """One start of a job: `restart` is Slurm's count. `progress` is what was there at the start and at the end: steps
    of the newest checkpoint, or bytes of the store. `bad_nodes` failed the pre-flight. `at_limit`: ended by the time
    limit, and not by a preemption or a cancellation."""

    job: str
    restart: int
    nodes: list[str]
    state: State = "starting"
    code: int | None = None
    reason: str = ""
    progress: list[int] = field(default_factory=lambda: [0, 0])
    at_limit: bool = False
    bad_nodes: list[str] = field(default_factory=list)
    started_at: float = 0.0
    ended_at: float | None = None


@dataclass
class JobRecord:
    """All attempts of one stage (or shard), the newest last."""

    attempts: list[JobAttempt] = field(default_factory=list)

    @property
    def latest(self) -> JobAttempt | None:
        return self.attempts[-1] if self.attempts else None

    def of_job(self, job: str) -> list[JobAttempt]:
        """The attempts of one Slurm job."""
        return [a for a in self.attempts if a.job == job]

    def excluded(self, job: str) -> list[str]:
        """The nodes that a job is not to be given again."""
        return sorted({node for a in self.of_job(job) for node in a.bad_nodes})

    def save(self, folder: Path) -> None:
        write_json(folder / RECORD, asdict(self))
        latest = self.latest
        write_atomic(folder / EXCLUDE, ",".join(self.excluded(latest.job)) if latest else "")


def load_record(folder: Path) -> JobRecord:
    """The record in the folder of a stage or a shard; an empty one where no job has begun."""
    try:
        raw: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return JobRecord([JobAttempt(**attempt) for attempt in raw["attempts"]])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return JobRecord()
