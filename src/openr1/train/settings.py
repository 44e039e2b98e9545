"""Settings of the training stages. `train` holds TRL's own argument names; `openr1.train.check` validates them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.errors import did_you_mean
from openr1.rewards.settings import RewardSettings
from openr1.settings import Settings
from openr1.train.check import train_problems

__all__ = [
    "GRPOSettings", "LoraSettings", "ParallelSettings", "ProbeSettings", "SFTSettings", "StopAtSettings",
    "train_problems",
]  # fmt: skip


class ParallelSettings(Settings):
    """How one training stage is spread over processes, a GPU each (or, on a CPU, a core or more).

    `kind`: single; ddp (a whole copy on every process); zero2 (DeepSpeed: optimizer state and gradients are shared
    out, arXiv 1910.02054); zero3 (parameters too); fsdp2 (PyTorch's own, GPUs only). `processes`: null is what the
    stage's `resources` say, nodes x gpus. `offload` keeps the optimizer's state (zero2, zero3), or all of what is
    shared out (zero3, fsdp2), in the memory of the host.
    """

    kind: Literal["single", "ddp", "zero2", "zero3", "fsdp2"] = "single"
    processes: int | None = Field(default=None, ge=1)
    offload: Literal["none", "optimizer", "all"] = "none"

    @model_validator(mode="after")
    def _fits(self) -> ParallelSettings:
        if self.kind == "single" and self.processes not in (None, 1):
            raise ValueError(f"kind single is one process, processes is {self.processes}; choose ddp, zero2 or zero3")
        possible = {"zero2": ("none", "optimizer"), "zero3": ("none", "optimizer", "all"), "fsdp2": ("none", "all")}
        if self.offload not in possible.get(self.kind, ("none",)):
            able = " or ".join(kind for kind, values in possible.items() if self.offload in values)
            raise ValueError(f"offload {self.offload} is not for kind {self.kind}; choose {able}, or offload none")
        return self

    def world_size(self, resources: int) -> int:
        """How many processes train, where the stage's resources are so many GPUs."""
        return 1 if self.kind == "single" else self.processes or max(resources, 1)


LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSettings(Settings):
    """Train low-rank adapters and leave the model as it is (LoRA, arXiv 2106.09685); what comes out is the whole model
    with the adapters merged.

    `r` is their rank, `alpha` scales them by alpha / r. `target_modules` names linear maps, or is [all-linear].
    `quantize: nf4` keeps the frozen model in 4 bits (QLoRA, arXiv 2305.14314), which needs a GPU and bitsandbytes.
    """

    r: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] = Field(default=["all-linear"], min_length=1)
    quantize: Literal["none", "nf4"] = "none"

    @model_validator(mode="after")
    def _known(self) -> LoraSettings:
        if "all-linear" in self.target_modules and len(self.target_modules) > 1:
            raise ValueError("target_modules: all-linear stands for all of them; leave the others out")
        for name in self.target_modules:
            if name not in (*LINEARS, "all-linear"):
                raise ValueError(f"target_modules: {name!r} is no linear map; {did_you_mean(name, LINEARS)}")
        return self


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
    """Supervised fine-tuning: `train` are the fields of `trl.SFTConfig`; with `lora` only adapters are trained."""

    train: dict[str, Any]
    lora: LoraSettings | None = None
    stop_at: StopAtSettings | None = None
    parallel: ParallelSettings = ParallelSettings()


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
    lora: LoraSettings | None = None
    shuffle_rewards: bool = False
    prefill: str | None = None
    reflection_words: list[str] = []
    probes: ProbeSettings | None = None
    parallel: ParallelSettings = ParallelSettings()
