"""`metrics.jsonl`, the truth about what a stage measured: one line a step, appended, every step there once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from openr1.manifest import write_atomic
from openr1.metrics.tracker import Tracker


class MetricLog:
    """Append-only `metrics.jsonl` of one stage."""

    def __init__(self, path: Path, tracker: Tracker | None = None) -> None:
        self.path, self.tracker = path, tracker
        path.parent.mkdir(parents=True, exist_ok=True)
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """A killed writer can leave half a line; what is appended to it would be lost with it."""
        with suppress(FileNotFoundError), open(self.path, "r+b") as f:
            data = f.read()
            f.truncate(data.rfind(b"\n") + 1)

    def resume_from(self, step: int) -> None:
        """Forget lines after `step` and a torn last line: they will be written again."""
        if self.path.exists():
            kept = [row for row in read_metrics(self.path) if row["step"] <= step]
            write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line for `step`; a value that is not finite is written as null, and counted by the guards."""
        row = {"step": step} | {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row | {"time": round(time.time(), 3)}) + "\n")
        if self.tracker is not None:
            self.tracker.log(step, row)

    def alert(self, title: str, text: str) -> None:
        """Tell whoever watches the run from afar; the log of the stage says it by itself."""
        if self.tracker is not None:
            self.tracker.alert(title, text)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metric log, the last one of each step, in step order; a torn last line is left out."""
    rows: dict[int, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                rows[row["step"]] = rows.get(row["step"], {}) | row
    return [rows[s] for s in sorted(rows)]
