"""The jobs that the stages of a recipe become on a site: how much each asks for, and what each waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from openr1.config.cluster import ClusterSettings
from openr1.config.recipe import Recipe
from openr1.stages.resources import minutes_of
from openr1.stages.settings import StageSettings

Part = Literal["stage", "shards", "merge"]
CPUS_PER_GPU = 8


@dataclass(frozen=True)
class Job:
    """What is asked of Slurm for a stage, or for a part of a generate stage that is made in shards.

    `gpus`, `cpus` and `memory_gib` are those of one node, `minutes` the limit. `tasks` are the indices of a job array
    and `shards` how many tasks the whole array has. `after` names the stages whose jobs have to be done first; a
    `merge` also waits for the array of its own stage.
    """

    stage: str
    kind: str
    part: Part
    nodes: int
    gpus: int
    cpus: int
    memory_gib: int | None
    minutes: int
    partition: str | None
    account: str | None
    qos: str | None
    tasks: tuple[int, ...] = ()
    shards: int = 1
    after: tuple[str, ...] = ()

    @property
    def gpu_hours(self) -> float:
        """The most that one attempt can take: all GPUs until the limit."""
        return self.nodes * self.gpus * max(1, len(self.tasks)) * self.minutes / 60

    @property
    def name(self) -> str:
        """What squeue calls it, behind the run's name."""
        return self.stage if self.part == "stage" else f"{self.stage}.{self.part}"

    @property
    def script(self) -> str:
        """The name of its file in the stage's folder."""
        return "shards.sbatch" if self.part == "shards" else "job.sbatch"


def stage_job(recipe: Recipe, name: str, after: Iterable[str] = ()) -> Job:
    """The job of a stage that is made in one piece."""
    settings, site = recipe.stages[name], recipe.cluster
    asked = settings.resources
    limit = minutes_of(asked.time or site.time)
    if asked.gpus == 0:
        return _without_gpu(settings, name, site, asked.nodes, limit, tuple(after))
    share = asked.gpus / max(site.gpus_per_node or asked.gpus, 1)
    cpus = max(1, int(site.cpus * share)) if site.cpus else CPUS_PER_GPU * asked.gpus
    memory = max(1, int(site.memory_gib * share)) if site.memory_gib else None
    return Job(
        name, settings.kind, "stage", asked.nodes, asked.gpus, cpus, memory, limit,
        site.partition, site.account, site.qos, after=tuple(after),
    )  # fmt: skip


def shard_jobs(recipe: Recipe, name: str, tasks: Iterable[int], after: Iterable[str] = ()) -> list[Job]:
    """The array of a generate stage's shards that are still to make, and the job that puts them together."""
    settings, site = recipe.stages[name], recipe.cluster
    todo, waits = tuple(tasks), tuple(after)
    whole = stage_job(recipe, name, waits)
    array = replace(whole, part="shards", tasks=todo, shards=settings.resources.shards)
    merge = replace(_without_gpu(settings, name, site, 1, whole.minutes, waits), part="merge")
    return [array, merge] if todo else [merge]


def whole_stage(recipe: Recipe, name: str) -> list[Job]:
    """The jobs of a stage of which nothing is made yet."""
    count = recipe.stages[name].resources.shards
    return [stage_job(recipe, name)] if count == 1 else shard_jobs(recipe, name, range(count))


def _without_gpu(
    settings: StageSettings, name: str, site: ClusterSettings, nodes: int, limit: int, after: tuple[str, ...]
) -> Job:
    cpu = site.cpu_jobs
    return Job(
        name, settings.kind, "stage", nodes, 0, cpu.cpus, cpu.memory_gib, limit,
        cpu.partition or site.partition, cpu.account or site.account, cpu.qos or site.qos, after=after,
    )  # fmt: skip


def array_text(tasks: Iterable[int], at_once: int | None) -> str:
    """Indices as sbatch takes them, ranges put together, with the throttle.

    >>> array_text([0, 1, 2, 5], 2)
    '0-2,5%2'
    """
    ranges: list[list[int]] = []
    for task in sorted(tasks):
        if ranges and task == ranges[-1][1] + 1:
            ranges[-1][1] = task
        else:
            ranges.append([task, task])
    text = ",".join(f"{a}-{b}" if b > a else str(a) for a, b in ranges)
    return f"{text}%{at_once}" if at_once else text


def limit_text(minutes: int) -> str:
    """A time limit in the one form that nobody misreads.

    >>> limit_text(1500)
    '1-01:00:00'
    """
    days, rest = divmod(minutes, 24 * 60)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00"


def price(jobs: Iterable[Job], site: ClusterSettings) -> Mapping[str, float | None]:
    """The most that the jobs can take in one attempt each: GPU-hours, and USD where the site says a price."""
    hours = sum(job.gpu_hours for job in jobs)
    usd = hours * site.price_per_gpu_hour if site.price_per_gpu_hour else None
    return {"gpu_hours": round(hours, 3), "usd": round(usd, 2) if usd is not None else None}
