"""What a training stage used: steps, tokens, seconds by phase, FLOPs; kept in every checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openr1.engines.base import generation_flops

ACCOUNT = "openr1.json"


@dataclass(frozen=True)
class TrainResult:
    """How a training stage ended.

    `tokens`: trained (every token that went through forward and backward, prompts included), generated, prompt.
    `phases`: seconds spent in generate, grade, wait (for other ranks), sync (weights to vLLM), train (everything else
    of a step), evaluate and save, as rank 0 has them. `parameters`: all of them. `flops`: 6·N·trained + 2·N·(prompt +
    generated), where N leaves out an untied input embedding (a look-up) and the experts that a token is not sent to,
    and keeps the LM head; attention's products are not counted (Kaplan et al., arXiv 2001.08361, table 1).
    `stopped`: why it ended. `dropped`: reason -> rows left out. `parallel`: on what processes it really ran.
    `guards`: guard -> steps measured and warned of, the first of them, the worst value. `profile`: tokens a second,
    idle share and MFU (openr1.train.profile). `best`: the step whose weights were put out, its accuracy and all
    measurements; None where it is the last one's.
    """

    steps: int
    tokens: dict[str, int]
    phases: dict[str, float]
    flops: float
    parameters: int
    stopped: str
    dropped: dict[str, int]
    parallel: dict[str, Any]
    guards: dict[str, dict[str, Any]] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] | None = None


def training_flops(parameters: int, trained: int, generated: int = 0, prompt: int = 0) -> float:
    """6·N·D for forward and backward plus 2·N·D for what was generated and the prompts read for it."""
    return 6.0 * parameters * trained + generation_flops(parameters, generated + prompt)


@dataclass
class Account:
    """The running totals of a stage; `stopped` is set once training has come to its end."""

    tokens: dict[str, int] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    measured: dict[str, float] = field(default_factory=dict)  # step -> accuracy on the development prompts

    def count(self, **tokens: int) -> None:
        """Add to the token totals."""
        for name, n in tokens.items():
            self.tokens[name] = self.tokens.get(name, 0) + int(n)

    def spend(self, phase: str, seconds: float) -> None:
        """Add to a phase's seconds."""
        self.phases[phase] = self.phases.get(phase, 0.0) + seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spend(name, time.perf_counter() - started)

    def best(self) -> dict[str, Any] | None:
        """The step with the best accuracy on the development prompts, the earliest of equals, and all measurements."""
        if not self.measured:
            return None
        step = max(self.measured, key=lambda s: (self.measured[s], -int(s)))
        return {"step": int(step), "accuracy": self.measured[step], "measured": dict(self.measured)}

    def save(self, checkpoint: Path) -> None:
        (checkpoint / ACCOUNT).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, checkpoint: Path) -> Account:
        raw: dict[str, Any] = json.loads((checkpoint / ACCOUNT).read_text(encoding="utf-8"))
        return cls(**raw)
