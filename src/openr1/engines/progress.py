"""How far a generation is: completions done, missing and failed, tokens a second, time left; bar and metric log."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from openr1.log import Progress

if TYPE_CHECKING:
    from openr1.metrics import MetricLog
    from openr1.records import Completion

EVERY = 10.0  # seconds between two lines of the metric log


class GenerationProgress:
    """The account of one attempt. `total` completions are wanted, `there` of them were there when it began."""

    def __init__(self, title: str, total: int, there: int, metrics: MetricLog | None = None) -> None:
        self.title, self.total, self.there, self.metrics = title, total, there, metrics
        self.tokens = {"prompt": 0, "generated": 0}
        self.new = self.failed = self.given_up = 0
        self._began = self._logged = time.monotonic()
        self._bar = Progress(title, total, there)

    def __enter__(self) -> GenerationProgress:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._log()
        self._bar.__exit__(*error)

    def add(self, commit: Sequence[Completion], given_up: Container[Any] = ()) -> None:
        """Count a commit and show it; `given_up` may say how many are not needed any more (`stopped`)."""
        self.new += len(commit)
        self.failed += sum(c.error is not None for c in commit)
        self.tokens["prompt"] += sum(c.prompt_tokens for c in commit)
        self.tokens["generated"] += sum(c.completion_tokens for c in commit)
        if time.monotonic() - self._logged >= EVERY:
            self.given_up = getattr(given_up, "stopped", 0)
            self._log()
        self._bar.update(self.there + self.new + self.given_up, self.note())

    @property
    def missing(self) -> int:
        """Completions that are still to come."""
        return max(0, self.total - self.there - self.new - self.given_up)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens of this attempt over its seconds so far."""
        return self.tokens["generated"] / max(time.monotonic() - self._began, 1e-9)

    @property
    def eta_seconds(self) -> float:
        """Seconds left if completions keep coming as they did in this attempt."""
        return self.missing * (time.monotonic() - self._began) / max(self.new, 1)

    def note(self) -> str:
        """What stands beside the bar."""
        failed = f"{self.failed} failed, " if self.failed else ""
        return f"{self.missing} missing, {failed}{self.tokens_per_second:.0f} tokens/s"

    def _log(self) -> None:
        self._logged = time.monotonic()
        if self.metrics is not None and self.new:
            values = {
                "completions": self.there + self.new,
                "missing": self.missing,
                "failed": self.failed,
                "generated_tokens": self.tokens["generated"],
                "tokens_per_second": round(self.tokens_per_second, 1),
                "eta_seconds": round(self.eta_seconds, 1),
            }
            self.metrics.log(self.there + self.new, values)
