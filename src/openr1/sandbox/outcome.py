"""What became of one test: the facts, no judgement of the output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal[
    "ok", "error", "cpu_timeout", "wall_timeout", "memory", "output_limit", "compile_error", "infra_error"
]


@dataclass(frozen=True)
class Case:
    """One run of a program: what it reads on stdin, its arguments, and files in its working folder."""

    stdin: str | bytes = b""
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a run ended and what it wrote.

    `ok` is exit code 0 within all limits; `error` another exit code or a signal (negative, as in `subprocess`).
    `infra_error` is ours, after retries: it says nothing of the program, and `stderr` says what happened.
    """

    status: Status
    stdout: bytes = b""
    stderr: bytes = b""
    """The last 64 KB."""
    exit_code: int | None = None
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    """Largest resident size of one of its processes; some 15 MB are the interpreter's, before an exec too."""
