"""`openr1 logs --follow`: what a stage's logs gain, until it has ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

from openr1.errors import UserError
from openr1.launch.status import log_files, run_status

PAUSE, ASK_AGAIN = 0.5, 10.0  # seconds between two looks at the files, and between two questions to Slurm
UNDER_WAY = ("queued", "running")


def follow_logs(folder: Path, stage: str | None, out: TextIO) -> None:
    """Print the logs of a stage's latest attempt, or of all stages as they write, as they grow.

    Raises UserError where nothing has written and nothing is going to.
    """
    shown: dict[Path, int] = {}
    last: Path | None = None
    asked = -ASK_AGAIN
    going = True
    while going:
        if time.monotonic() - asked >= ASK_AGAIN:
            going, asked = _under_way(folder, stage), time.monotonic()
        try:
            files = log_files(folder, stage)
        except UserError:
            if not going:
                raise
            files = []
        for path in files:
            last = _print_new(path, shown, last, out)
        if going:
            time.sleep(PAUSE)


def _under_way(folder: Path, stage: str | None) -> bool:
    rows, _ = run_status(folder)
    return any(row.state in UNDER_WAY for row in rows if stage in (None, row.stage))


def _print_new(path: Path, shown: dict[Path, int], last: Path | None, out: TextIO) -> Path | None:
    """Print what a file has gained, under its name where another one was printed before; the file printed last."""
    with open(path, "rb") as file:
        file.seek(shown.get(path, 0))
        new = file.read()
    shown[path] = shown.get(path, 0) + len(new)
    if not new:
        return last
    if path != last:
        out.write(f"==> {path} <==\n")
    out.write(new.decode(encoding="utf-8", errors="replace"))
    out.flush()
    return path
