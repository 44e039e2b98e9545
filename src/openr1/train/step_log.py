"""The callback that writes every optimizer step down: metrics, seconds by phase, progress, why training ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

from openr1.log import Progress
from openr1.metrics import MetricLog
from openr1.train.account import Account
from openr1.train.guards import Guards
from openr1.train.profile import PHASES, Profiler
from openr1.train.watchdog import Watchdog

# what the trainer logs -> our vocabulary (openr1.metrics.VOCABULARY)
NAMES = {
    "loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "epoch": "epoch", "entropy": "entropy",
    "kl": "kl", "clip_ratio/region_mean": "clip_ratio",
    "sampling/sampling_logp_difference/mean": "logprob_gap", "sampling/sampling_logp_difference/max": "logprob_tail",
    "sampling/importance_sampling_ratio/min": "ratio_min", "sampling/importance_sampling_ratio/max": "ratio_max",
}  # fmt: skip


class StepLog(TrainerCallback):
    """Logs every step to the metric log, moves the progress bar, and writes down why training ended.

    `guards` judge what is logged; `watchdog` hears of everything that ends; `profiler` knows rates.
    """

    def __init__(
        self,
        account: Account,
        metrics: MetricLog,
        bar: Progress,
        guards: Guards | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.account, self.metrics, self.bar, self.guards, self.watchdog = account, metrics, bar, guards, watchdog
        self.profiler: Profiler | None = None
        self.extra: dict[str, float] = {}  # metrics of the current step that the trainer does not know
        self._mark = time.perf_counter()
        self._spent: dict[str, float] = {}
        self._counted: dict[str, int] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.total = state.max_steps
        self._start_step()

    def _start_step(self) -> None:
        self._mark = time.perf_counter()
        self._spent, self._counted = dict(self.account.phases), dict(self.account.tokens)
        self._beat()

    def _beat(self) -> None:
        if self.watchdog is not None:
            self.watchdog.beat()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._beat()

    @contextmanager
    def aside(self, phase: str) -> Iterator[None]:
        """Count the block to `phase` and leave it out of the step's seconds."""
        started = time.perf_counter()
        with self.account.phase(phase):
            yield
        self._mark += time.perf_counter() - started
        self._beat()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seconds of the step: what is neither generation nor grading is training; then the account may be saved."""
        step = time.perf_counter() - self._mark
        phases = self.account.phases
        known = {p: phases[p] - self._spent.get(p, 0.0) for p in PHASES if p in phases}
        train = step - sum(known.values())
        self.account.spend("train", train)
        self.extra |= {f"seconds/{p}": s for p, s in known.items()} | {"seconds/train": train, "seconds/step": step}
        if self.profiler is not None:
            counted = {k: n - self._counted.get(k, 0) for k, n in self.account.tokens.items()}
            rates = self.profiler.rates(known | {"train": train}, counted)
            self.extra |= {f"speed/{name}": rate for name, rate in rates.items()}
        self.extra["tokens"] = self.account.tokens.get("trained", 0) + self.account.tokens.get("generated", 0)
        if state.global_step >= state.max_steps and self.account.stopped is None:
            self.account.stopped = f"all {state.max_steps} steps done"

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:  # the summary at the end
            return
        values = {NAMES[k]: v for k, v in logs.items() if k in NAMES and v is not None} | self.extra
        self.metrics.log(state.global_step, values)
        shown = ("reward", "accuracy", "loss")
        note = next((f"{n} {values[n]:.3f}" for n in shown if n in values), "")
        self.bar.update(state.global_step, note)
        self.extra = {}
        self._start_step()
        if self.guards is not None:
            self.guards.look(state.global_step, values)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._start_step()
