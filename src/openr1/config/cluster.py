"""Settings of a site: what it has. What a stage needs stands in the stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from openr1.settings import Settings


class ClusterSettings(Settings):
    """`kind: local` runs stages here, with the GPUs that are found; `kind: slurm` is a site of `nodes` nodes with
    `gpus_per_node` GPUs each.

    `name` is what messages call it. `gpu` is the GPU's name, `gpu_memory_gib` its memory (GiB, as nvidia-smi counts).
    `workers` is how many stages may run side by side (null: the machine decides). `threads` is how many compute
    threads each gets (null: an equal share of the cores); OMP_NUM_THREADS goes before it. `price_per_gpu_hour` is in
    USD.
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

    @model_validator(mode="after")
    def _said(self) -> ClusterSettings:
        if self.kind == "slurm" and (self.gpus_per_node is None or (self.gpus_per_node and not self.gpu_memory_gib)):
            raise ValueError("a slurm site says gpus_per_node and gpu_memory_gib; nobody can look from here")
        return self
