"""What a stage needs of the site that it runs on; torch-free."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from openr1.settings import Settings

TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+)(?::(?P<minutes>[0-5]?\d)(?::(?P<seconds>[0-5]?\d))?)?")


def minutes_of(limit: str) -> int:
    """Minutes of a time limit: `hours:minutes:seconds`, `days-hours:minutes`, `hours:minutes`; a part of one counts.

    Slurm reads `90:00` as 90 minutes; here a limit of two parts has hours first, and is handed on in full.

    >>> minutes_of("24:00:00"), minutes_of("2-12:00"), minutes_of("0:00:30")
    (1440, 3600, 1)
    """
    found = TIME.fullmatch(limit)
    if found is None or ("-" not in limit and ":" not in limit):
        raise ValueError(f"{limit!r} is no time limit; write hours:minutes:seconds or days-hours:minutes:seconds")
    days, hours, minutes, seconds = (int(found[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise ValueError(f"{limit!r} is no time at all; write hours:minutes:seconds")
    return -(-total // 60)


def _time(value: str) -> str:
    minutes_of(value)
    return value


TimeLimit = Annotated[str, AfterValidator(_time)]


class Resources(Settings):
    """What a stage needs; what a site has stands in `cluster`. `gpus` are those of one node.

    The rest is for Slurm: `time` is the limit of its job (hours:minutes:seconds; null: `cluster.time`), `shards` the
    tasks of a generate stage's job array, each on so many nodes and GPUs.
    """

    nodes: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    time: TimeLimit | None = None
    shards: int = Field(default=1, ge=1, le=10000)
