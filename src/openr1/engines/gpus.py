"""The NVIDIA GPUs that this process may use, asked of nvidia-smi without importing torch; nobody else counts them.

CUDA_VISIBLE_DEVICES chooses among them as CUDA does: by index or by the beginning of a UUID, up to the first one that
is not there. A machine without nvidia-smi has none, whatever that variable says (Slurm sets it for stand-ins too).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

QUERY = "index,uuid,name,memory.total"


@dataclass(frozen=True)
class GPU:
    """`id` is what CUDA_VISIBLE_DEVICES calls it, `name` and `memory` are nvidia-smi's words ("" for a MIG slice)."""

    id: str
    name: str = ""
    memory: str = ""


def visible() -> list[GPU]:
    """Those that this process may use, in CUDA's order."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or named == "":
        return []
    there = _all(program)
    if named is None:
        return [GPU(index, name, memory) for index, _, name, memory in there]
    found: list[GPU] = []
    for word in (part.strip() for part in named.split(",")):
        gpu = next((g for g in there if word and (g[0] == word or g[1].startswith(word))), None)
        if gpu is not None:
            found.append(GPU(word, gpu[2], gpu[3]))
        elif word.startswith("MIG-") and there:  # a slice of a GPU, which the query does not list
            found.append(GPU(word))
        else:
            break
    return found


@lru_cache(maxsize=4)
def _all(program: str) -> tuple[tuple[str, str, str, str], ...]:
    command = [program, f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = ([part.strip() for part in line.split(",")] for line in done.stdout.splitlines())
    return tuple((row[0], row[1], ", ".join(row[2:-1]), row[-1]) for row in rows if len(row) >= 4)
