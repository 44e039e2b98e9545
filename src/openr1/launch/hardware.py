"""What this machine has, asked without importing torch."""

from __future__ import annotations

import os

from openr1.engines.gpus import visible


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Name and memory of the NVIDIA GPUs that this process may use, as nvidia-smi has them."""
    return [", ".join(word for word in (gpu.name or gpu.id, gpu.memory) if word) for gpu in visible()]


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
