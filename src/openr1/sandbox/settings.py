"""Limits of one program's run. Imports without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openr1.settings import Settings

Tier = Literal["bubblewrap", "landlock", "piston"]


class Limits(Settings):
    """What one test may use. CPU time is the verdict; wall time is the loose backstop of a machine under load."""

    cpu_s: float = Field(default=5.0, gt=0, le=3600)
    """CPU seconds of the program and all its threads and children, compilation by Python included."""
    wall_s: float = Field(default=20.0, gt=0, le=24 * 3600)
    """Seconds from start to end, not counting those that it waited for a core (up to ten times as many)."""
    memory_mb: int = Field(default=512, ge=16, le=1 << 20)
    """Resident memory; the address space ends 256 MB later."""
    processes: int = Field(default=1, ge=1, le=512)
    """Processes at one time; with 1 a program can start none. Threads are not counted, 64 are allowed."""
    files_mb: int = Field(default=32, ge=1, le=1 << 16)
    """Size of the folder that it may write in."""
    output_mb: int = Field(default=8, ge=1, le=1024)
    """Output on stdout, and likewise on stderr."""
