"""What the training tests share: prompts, settings, rewards, and a metric log that ends its process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openr1.metrics import MetricLog
from openr1.records import Prompt
from openr1.rewards import PartSettings, RewardBatch, RewardSettings


def make_prompt(a: int, b: int, verifier: str = "math", answer: str | None = None) -> Prompt:
    question = f"{a}+{b}"
    return Prompt("add", [{"role": "user", "content": question}], answer or str(a + b), verifier)


def make_rows(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """Rows for SFT: the question repeated as a thought, then the answer."""
    return [
        {
            "prompt_id": p.prompt_id,
            "prompt": p.messages,
            "completion": [{"role": "assistant", "content": f"<think>{p.question}</think>\\boxed{{{p.answer}}}"}],
        }
        for p in prompts
    ]


class Killed(BaseException):
    """What a test raises in the place of a kill."""


class KillingLog(MetricLog):
    """A metric log whose process ends right after it has logged step `at`."""

    def __init__(self, path: Path, at: int) -> None:
        super().__init__(path)
        self.at = at

    def log(self, step: int, values: Any) -> None:
        super().log(step, values)
        if step == self.at:
            raise Killed


SFT_TRAIN: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "max_steps": 9,
    "save_steps": 3,
    "lr_scheduler_type": "cosine",
}
GRPO_TRAIN: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 8,
    "learning_rate": 1e-3,
    "max_steps": 5,
    "save_steps": 2,
}
REWARD = RewardSettings(
    parts={"accuracy": PartSettings(weight=1.0), "varied": PartSettings(weight=0.5, function="train_helpers:varied")}
)


def varied(batch: RewardBatch) -> list[float | None]:
    """A reward in which even a random model's completions differ: how many kinds of characters they have."""
    return [len(set(text)) / 10 for text in batch.completions]


def masked_second(batch: RewardBatch) -> list[float | None]:
    """0, masked, 1, 1 in every group of four."""
    return [(0.0, None, 1.0, 1.0)[i % 4] for i in range(len(batch))]


def always_one(batch: RewardBatch) -> list[float | None]:
    return [1.0] * len(batch)


def raising(batch: RewardBatch) -> list[float | None]:
    return [1 / 0 for _ in batch.completions]
