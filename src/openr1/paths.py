"""Where the recipes, benchmark definitions and Slurm templates are, in a checkout and in an installed wheel."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_dir(name: str) -> Path:
    """The folder `recipes`, `eval`, `slurm` or `samples` that ships with openr1."""
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / name


def cache_dir() -> Path:
    """The shared cache of converted models and compiled helpers: OPENR1_CACHE, else ~/.cache/openr1."""
    return Path(os.environ.get("OPENR1_CACHE") or Path.home() / ".cache" / "openr1")


def runs_dir() -> Path:
    """The folder that holds runs: OPENR1_RUNS, else ./runs."""
    return Path(os.environ.get("OPENR1_RUNS") or "runs")
