"""What a Slurm site says of its partitions, and whether jobs fit there: said before anything is queued."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from openr1.errors import did_you_mean
from openr1.launch.slurm.commands import ask
from openr1.launch.slurm.jobs import Job, limit_text

COLUMNS = ("%R", "%a", "%l", "%D", "%c", "%m", "%G")  # partition, up, limit, nodes, cpus, MB, GRES
GPU = re.compile(r"gpu:(?:(?P<type>[^:(,]+):)?(?P<count>\d+)")


@dataclass(frozen=True)
class Nodes:
    """So many nodes of one make."""

    count: int
    cpus: int
    memory_mb: int
    gpus: dict[str, int]  # by type; "" where the site names none

    def has(self, job: Job, gpu_type: str | None) -> bool:
        gpus = self.gpus.get(gpu_type, 0) if gpu_type else max(self.gpus.values(), default=0)
        enough = self.cpus >= job.cpus and self.memory_mb >= 1024 * (job.memory_gib or 0)
        return enough and gpus >= job.gpus


@dataclass
class Partition:
    """A partition: whether it takes jobs, its longest limit in minutes (None: none), its nodes by make."""

    name: str
    up: bool
    minutes: int | None
    nodes: list[Nodes] = field(default_factory=list)
    default: bool = False


def partitions() -> dict[str, Partition]:
    """The partitions that this user sees, by name. Raises OutsideError where Slurm does not answer."""
    found: dict[str, Partition] = {}
    for line in ask(["sinfo", "--noheader", "--exact", f"--format={'|'.join(COLUMNS)}|%P"]).splitlines():
        name, up, limit, count, cpus, memory, gres, starred = line.strip().split("|")
        partition = found.setdefault(name, Partition(name, up == "up", _minutes(limit), [], starred.endswith("*")))
        gpus: dict[str, int] = {}
        for gpu in GPU.finditer(gres):
            gpus[gpu["type"] or ""] = gpus.get(gpu["type"] or "", 0) + int(gpu["count"])
        partition.nodes.append(Nodes(int(count), _number(cpus), _number(memory), gpus))
    return found


def _number(text: str) -> int:
    return int(re.match(r"\d*", text).group() or 0)  # type: ignore[union-attr]  # 96+ where nodes differ


def _minutes(limit: str) -> int | None:
    """Slurm's print of a limit: `1-00:00:00`, `30:00` (minutes and seconds), `infinite`."""
    if not limit[:1].isdigit():
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(p) for p in clock.split(":")]
    hours, minutes = (parts[0], parts[1]) if len(parts) == 3 else (0, parts[0])
    return (int(days or 0) * 24 + hours) * 60 + minutes


def site_problems(jobs: Sequence[Job], gpu_type: str | None, found: dict[str, Partition]) -> list[str]:
    """Why jobs would never run on this site, one line for all jobs of the same trouble."""
    said: dict[str, list[str]] = {}
    for job in jobs:
        for problem in _job_problems(job, gpu_type, found):
            said.setdefault(problem, []).append(job.stage)
    return [f"{names_of(stages)}: {problem}" for problem, stages in said.items()]


def names_of(stages: Iterable[str]) -> str:
    """Stages by name, many of them by number."""
    names = list(dict.fromkeys(stages))
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more stages"


def _job_problems(job: Job, gpu_type: str | None, found: dict[str, Partition]) -> Iterator[str]:
    name = job.partition or next((p.name for p in found.values() if p.default), None)
    key = "cluster.partition" if job.gpus else "cluster.partition (or cluster.cpu_jobs.partition)"
    if name is None:
        yield f"{key}: none is named, and this site has no default; known: {', '.join(sorted(found))}"
    elif name not in found:
        yield f"{key}={name}: no such partition here; {did_you_mean(name, found)}"
    else:
        yield from _misfits(job, gpu_type, found[name], name)


def _misfits(job: Job, gpu_type: str | None, partition: Partition, name: str) -> Iterator[str]:
    if not partition.up:
        yield f"partition {name} is down; choose another, or ask the site"
    if partition.minutes is not None and job.minutes > partition.minutes:
        yield (
            f"a limit of {limit_text(job.minutes)} is more than partition {name} allows, "
            f"{limit_text(partition.minutes)}; lower cluster.time, or the stage's resources.time"
        )
    fit = sum(nodes.count for nodes in partition.nodes if nodes.has(job, gpu_type))
    if fit < job.nodes:
        yield _too_few(job, gpu_type, partition, fit)


def _too_few(job: Job, gpu_type: str | None, partition: Partition, fit: int) -> str:
    asked = f"{job.cpus} CPUs" + (f", {job.memory_gib} GiB" if job.memory_gib else "")
    asked += f" and {job.gpus} GPUs{f' of type {gpu_type}' if gpu_type else ''}" if job.gpus else ""
    has = "; ".join(describe(nodes) for nodes in partition.nodes) or "no nodes"
    many = f"{job.nodes} nodes" if job.nodes > 1 else "a node"
    only = f"only {fit} such are there" if fit else "none is there"
    return f"{many} with {asked} in partition {partition.name}: {only} (it has {has}); mend cluster or resources"


def describe(nodes: Nodes) -> str:
    """So many nodes of one make, in words."""
    gpus = " + ".join(f"{n} GPUs {t}".rstrip() for t, n in nodes.gpus.items()) or "no GPU"
    return f"{nodes.count} with {nodes.cpus} CPUs, {nodes.memory_mb // 1024} GiB, {gpus}"
