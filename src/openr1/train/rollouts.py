"""Every rollout of every step, as Parquet: people debug RL by reading these.

One file a generation, `rollouts/step-NNNNNN.parquet`, named after the first optimizer step that trains on it, written
atomically. On resume the files after the checkpoint go, and are written again.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.manifest import write_atomic

FOLDER = "rollouts"
FOLDERS = (FOLDER, "probes")  # what is kept a step, in files named after it
_NAME = re.compile(r"step-(\d+)\.parquet")

COLUMNS: list[tuple[str, pa.DataType]] = [
    ("step", pa.int32()),
    ("prompt_id", pa.string()),
    ("sample_index", pa.int32()),
    ("prompt", pa.string()),
    ("completion", pa.string()),
    ("finish_reason", pa.string()),
    ("prompt_tokens", pa.int32()),
    ("completion_tokens", pa.int32()),
    ("total", pa.float64()),
    ("reward", pa.float64()),
    ("advantage", pa.float64()),
    ("status", pa.string()),
    ("extracted", pa.string()),
]


@dataclass
class Rollout:
    """One completion as it was trained on. `total` is the composed reward, `reward` what the trainer was given (they
    differ in the control that shuffles rewards); None is a masked row. `prompt` is the rendered prompt."""

    step: int
    prompt_id: str
    sample_index: int
    prompt: str
    completion: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    total: float | None
    reward: float | None
    parts: Mapping[str, float | None]
    status: str | None = None
    extracted: str | None = None
    advantage: float | None = None


def path_of(work: Path, step: int) -> Path:
    """Where the rollouts that step `step` (from 1) trains on first are kept."""
    return work / FOLDER / f"step-{step:06d}.parquet"


def write(work: Path, rollouts: Sequence[Rollout]) -> Path:
    """Write one generation; every part of the reward is a column `part/NAME`."""
    names = list(dict.fromkeys(name for r in rollouts for name in r.parts))
    columns: dict[str, Any] = {
        name: pa.array([getattr(r, name) for r in rollouts], type=kind) for name, kind in COLUMNS
    }
    columns |= {f"part/{name}": pa.array([r.parts.get(name) for r in rollouts], type=pa.float64()) for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    path = path_of(work, rollouts[0].step)
    write_atomic(path, buffer.getvalue())
    return path


def read(work: Path) -> pa.Table:
    """All rollouts of a stage in step order."""
    files = sorted((work / FOLDER).glob("step-*.parquet"))
    return pa.concat_tables([pq.read_table(f) for f in files], promote_options="default")


def discard_after(work: Path, step: int, folder: str = FOLDER) -> int:
    """Remove a folder's files of later steps and what a killed write left; returns how many files went."""
    gone = 0
    for file in (work / folder).glob("*"):
        match = _NAME.fullmatch(file.name)
        if match is None or int(match.group(1)) > step:
            file.unlink()
            gone += 1
    return gone
