"""Slurm's own commands, asked for words and answering in words; their failures as one line for a person."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from openr1.errors import OutsideError, UserError

TIMEOUT = 120.0  # a controller under load answers late; Slurm's own patience is shorter
COMMENT = re.compile(r"openr1:(?P<stage>[^:]+):(?P<part>stage|shards|merge):(?P<folder>.+)")
SILENT = re.compile(
    r"unable to contact|connection refused|connect failure|timed out|zero bytes|authentication|munge|communication|"
    r"establish a configuration|slurmdbd|not responding|temporarily unable",
    re.IGNORECASE,
)
QUEUE_COLUMNS = ("%F", "%K", "%T", "%r", "%N", "%k")  # array or job, task, state, reason, nodes, comment
ACCOUNT_COLUMNS = ("JobID", "State", "ExitCode", "NodeList")


class Refused(UserError):
    """Slurm does not take a job as it is; `why` is its own reason."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"Slurm refuses: {why}")


def ask(words: Sequence[str], text: str | None = None) -> str:
    """What a command prints. Raises OutsideError where it is not here or Slurm does not answer, Refused otherwise."""
    name = words[0]
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=TIMEOUT)
    except FileNotFoundError as e:
        raise OutsideError(f"{name}: not found; submit from a login node of the cluster, where Slurm is") from e
    except subprocess.TimeoutExpired as e:
        raise OutsideError(f"{name}: Slurm has not answered for {TIMEOUT:.0f} s; try again later") from e
    if done.returncode == 0:
        return done.stdout if "--test-only" not in words else done.stdout + done.stderr
    why = _reason(done.stderr) or f"{name} ended with code {done.returncode}"
    if SILENT.search(done.stderr):
        raise OutsideError(f"{name}: Slurm does not answer ({why}); try again later, or ask the site")
    raise Refused(why)


def _reason(text: str) -> str:
    """The last thing that a command complained of, without who complains."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return re.sub(r"^(\w+: )*(Batch job submission failed: |allocation failure: )?", "", last)


# ------------------------------------------------------------------------------------------------------- submitting
def sbatch(script: str, after: str | None) -> str:
    """Submit a file; the job's id. `after` is what it waits for, in Slurm's words."""
    wait = [f"--dependency={after}"] if after else []
    return ask(["sbatch", "--parsable", *wait, script]).strip().partition(";")[0]


def try_sbatch(text: str) -> None:
    """Have Slurm judge a script without taking it. Raises Refused with its reason."""
    ask(["sbatch", "--test-only"], text)


def scancel(jobs: Sequence[str]) -> None:
    if jobs:
        ask(["scancel", *jobs])


# ------------------------------------------------------------------------------------------------------ what is there
@dataclass(frozen=True)
class Queued:
    """A job of ours that Slurm knows as not ended, or a task of its array."""

    job: str
    task: int | None
    state: str
    reason: str
    nodes: str
    stage: str
    part: str

    @property
    def id(self) -> str:
        return self.job if self.task is None else f"{self.job}_{self.task}"

    @property
    def ending(self) -> bool:
        """It has ended and is being cleared away, or Slurm is about to end it: what it waits for has failed."""
        return self.state == "COMPLETING" or self.reason == "DependencyNeverSatisfied"


def queue(folder: str) -> list[Queued]:
    """The jobs of a run that have not ended, tasks of an array one by one."""
    lines = ask(["squeue", "--me", "--noheader", "--array", f"--format={'|'.join(QUEUE_COLUMNS)}"]).splitlines()
    found = []
    for line in lines:
        job, task, state, reason, nodes, comment = line.split("|", maxsplit=len(QUEUE_COLUMNS) - 1)
        said = COMMENT.fullmatch(comment.strip())
        if said is not None and said["folder"] == folder:
            number = int(task) if task.isdigit() else None
            found.append(Queued(job, number, state, reason, nodes, said["stage"], said["part"]))
    return found


@dataclass(frozen=True)
class Ended:
    """How a job, or a task of an array, ended, as accounting remembers it."""

    job: str
    state: str
    code: int
    signal: int
    nodes: str


def account(jobs: Sequence[str]) -> dict[str, Ended]:
    """What accounting says of jobs, tasks of arrays by `array_task`; empty where a site keeps no account."""
    if not jobs:
        return {}
    words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={','.join(ACCOUNT_COLUMNS)}"]
    try:
        lines = ask([*words, f"--jobs={','.join(jobs)}"]).splitlines()
    except UserError:
        return {}
    found = {}
    for line in lines:
        job, state, code, nodes = line.split("|", maxsplit=len(ACCOUNT_COLUMNS) - 1)
        status, _, signal = code.partition(":")
        found[job] = Ended(job, state.partition(" ")[0], int(status or 0), int(signal or 0), nodes)
    return found
