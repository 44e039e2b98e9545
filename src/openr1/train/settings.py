"""Settings of the training stages. `train` holds TRL's own argument names; `openr1.train.check` validates them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from openr1.rewards.settings import RewardSettings
from openr1.settings import Settings
from openr1.train.check import train_problems

__all__ = ["GRPOSettings", "ProbeSettings", "SFTSettings", "StopAtSettings", "train_problems"]


class StopAtSettings(Settings):
    """End SFT once accuracy on the development prompts is at least `accuracy`, measured every `every` steps.

    `temperature`: 0 measures greedy accuracy; the temperature of GRPO measures what GRPO starts from, since a young
    model can be right greedily and almost never when it samples. `prompts` bounds how many development prompts are
    measured (all by default); decoding stops at `max_new_tokens`.
    """

    accuracy: float = Field(ge=0, le=1)
    every: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    temperature: float = Field(default=0.0, ge=0)
    prompts: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=256, gt=0)

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    @property
    def measure(self) -> str:
        """What is measured, in words."""
        return "greedy" if self.temperature == 0 else f"sampled (T={self.temperature:g})"


class SFTSettings(Settings):
    """Supervised fine-tuning: `train` are the fields of `trl.SFTConfig`."""

    train: dict[str, Any]
    stop_at: StopAtSettings | None = None


class ProbeSettings(Settings):
    """Answer the first `prompts` probe prompts greedily at the start, every `every` steps and at the end.

    The answers are kept for people to read; training does not see them.
    """

    every: int = Field(gt=0)
    prompts: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)


class GRPOSettings(Settings):
    """Group relative policy optimisation (arXiv 2402.03300): `train` are the fields of `trl.GRPOConfig`.

    `shuffle_rewards` is the control: the totals are permuted across the whole batch by a seeded permutation, the parts
    stay logged as they were. `prefill` is text that every reply is forced to begin with. `reflection_words`: log the
    share of completions that hold one of them. `probes` needs the stage's input of that name. Neither of the last two
    changes the model.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"reflection_words", "probes"})

    train: dict[str, Any]
    reward: RewardSettings
    shuffle_rewards: bool = False
    prefill: str | None = None
    reflection_words: list[str] = []
    probes: ProbeSettings | None = None
