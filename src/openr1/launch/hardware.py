"""What this machine has, asked without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import lru_cache


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def gpus() -> list[str]:
    """Names of the NVIDIA GPUs, as nvidia-smi lists them; CUDA_VISIBLE_DEVICES= hides them all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def gpu_memory() -> list[tuple[str, float]]:
    """(name, GiB) of every GPU here."""
    found = []
    for line in gpus():
        name, _, memory = line.rpartition(",")
        number = memory.split()[0] if memory.split() else ""
        if number.replace(".", "", 1).isdigit():  # MiB, as nvidia-smi says; `[N/A]` on some machines
            found.append((name.strip(), float(number) / 1024))
    return found


def memory_gib() -> float:
    """GiB of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def gpu_count() -> int:
    return len(gpus())
