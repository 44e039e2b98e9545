"""Settings of a site: what it has, and what its jobs need to run there. What a stage needs stands in the stage."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from openr1.settings import Settings
from openr1.stages.resources import TimeLimit

PLAIN = re.compile(r"[A-Za-z0-9_][\w.,:@%+-]*")
NAME = re.compile(r"[A-Za-z_]\w*")


def _plain(value: str) -> str:
    if not PLAIN.fullmatch(value):
        raise ValueError(f"{value!r} holds a character that no name of Slurm has")
    return value


SlurmName = Annotated[str, AfterValidator(_plain)]


class ContainerSettings(Settings):
    """What the steps of a job run in. `apptainer` takes a .sif file or a docker:// address, `pyxis` what
    `srun --container-image` takes. `options`: more words for `apptainer exec` or for srun."""

    kind: Literal["apptainer", "pyxis"]
    image: str
    options: list[str] = []


class CPUJobs(Settings):
    """Jobs of stages that ask for no GPU. `partition`, `account` and `qos`: null is the site's own."""

    partition: SlurmName | None = None
    account: SlurmName | None = None
    qos: SlurmName | None = None
    cpus: int = Field(default=16, ge=1)
    memory_gib: int | None = Field(default=None, ge=1)


class ClusterSettings(Settings):
    """`kind: local` runs stages here, with the GPUs that are found; `kind: slurm` is a site of `nodes` nodes with
    `gpus_per_node` GPUs each.

    `name` is what messages call it. `gpu` is the GPU's name, `gpu_memory_gib` its memory (GiB, as nvidia-smi counts).
    `workers` is how many stages may run side by side (null: the machine decides). `threads` is how many compute
    threads each gets (null: an equal share of the cores); OMP_NUM_THREADS goes before it. `price_per_gpu_hour` is in
    USD.

    The rest is for `openr1 submit`. `partition`, `account`, `qos`, `constraint`, `exclude` are Slurm's words; null
    leaves one out, so that the site's default holds. `gpu_type` is the GPU's name in Slurm (`--gres=gpu:TYPE:8`).
    `cpus` and `memory_gib` are those of a whole node that a job may use; a stage on some of the GPUs asks for its
    share (null: 8 CPUs a GPU, and no memory named). `cpu_jobs` is for stages without a GPU. `time` is the limit of a
    job, where a stage's `resources.time` says no other. `sbatch` are further options of sbatch.

    `modules` are loaded and the lines of `setup` run before anything else in a job. `python` starts openr1 there
    (null: the Python that submits; in a container python3). `environment` is exported, `mounts` (FROM or FROM:TO) are
    what a container sees beside the run and the working folder. `network_interface`: what NCCL and Gloo talk over.
    `internet`: whether nodes reach the Hub and W&B; if not, `submit` fetches first and jobs are offline.

    `signal_lead_s` seconds before its limit, or when it is preempted, a job is told to save; it then goes back into
    the queue, at most `requeues` times, and only if a step or a row was made since. `shards_at_once`: how many tasks
    of a generate stage's array run at a time (null: all). `max_points`: how many runs one sweep may submit.
    """

    name: str = "local"
    kind: Literal["local", "slurm"]
    nodes: int = Field(default=1, ge=1)
    gpus_per_node: int | None = Field(default=None, ge=0)
    gpu: str | None = None
    gpu_memory_gib: float | None = Field(default=None, gt=0)
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    price_per_gpu_hour: float = Field(default=0.0, ge=0)
    partition: SlurmName | None = None
    account: SlurmName | None = None
    qos: SlurmName | None = None
    constraint: str | None = None
    exclude: str | None = None
    gpu_type: SlurmName | None = None
    cpus: int | None = Field(default=None, ge=1)
    memory_gib: int | None = Field(default=None, ge=1)
    cpu_jobs: CPUJobs = CPUJobs()
    time: TimeLimit = "24:00:00"
    sbatch: list[str] = []
    modules: list[str] = []
    setup: list[str] = []
    python: str | None = None
    container: ContainerSettings | None = None
    environment: dict[str, str] = {}
    mounts: list[str] = []
    network_interface: str | None = None
    internet: bool = True
    signal_lead_s: int = Field(default=300, ge=10, le=65535)
    requeues: int = Field(default=10, ge=0)
    shards_at_once: int | None = Field(default=None, ge=1)
    max_points: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _said(self) -> ClusterSettings:
        if self.kind == "slurm" and (self.gpus_per_node is None or (self.gpus_per_node and not self.gpu_memory_gib)):
            raise ValueError("a slurm site says gpus_per_node and gpu_memory_gib; nobody can look from here")
        if self.mounts and self.container is None:
            raise ValueError("mounts are what a container sees, and there is none; set container, or leave mounts out")
        wrong = [name for name in self.environment if not NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"environment: {wrong[0]!r} is no name of a variable; use letters, digits and _")
        for line in self.sbatch:
            if not line.startswith("-") or "\n" in line:
                raise ValueError(f"sbatch: {line!r} is no option of sbatch; write it as --name=value")
        return self
