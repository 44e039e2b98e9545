"""Settings of a site: what it has. What a stage needs stands in the stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openr1.settings import Settings


class ClusterSettings(Settings):
    """`kind: local` runs stages here. `workers` is how many stages may run side by side (null: the machine decides).
    `threads` is how many compute threads each gets (null: an equal share of the cores); OMP_NUM_THREADS goes before
    it. `price_per_gpu_hour` is in USD.
    """

    kind: Literal["local"]
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    price_per_gpu_hour: float = Field(default=0.0, ge=0)
