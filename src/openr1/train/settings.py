"""Settings of the training stages. `train` holds TRL's own argument names; `openr1.train.check` validates them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.errors import did_you_mean
from openr1.rewards.settings import RewardSettings
from openr1.settings import Settings
from openr1.train.check import train_problems
from openr1.train.fields import default
from openr1.train.guard_settings import Guard, GuardSettings, SFTGuardSettings
from openr1.train.vllm_rollouts import SERVER_SHARE, mode_of

__all__ = [
    "BestSettings", "CurriculumSettings", "GRPOSettings", "Guard", "GuardSettings", "LengthStepSettings",
    "LoraSettings", "ParallelSettings", "ProbeSettings", "SFTGuardSettings", "SFTSettings", "ServerSettings",
    "StopAtSettings", "train_problems",
]  # fmt: skip


# what a vLLM server is given, by our name and by the argument of TRL that says the same
SAID_TWICE = {
    "tensor_parallel": "vllm_tensor_parallel_size",
    "gpu_memory_utilization": "vllm_gpu_memory_utilization",
}


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


class BestSettings(Settings):
    """Put out the weights of the step with the best accuracy on the development prompts, measured every `every` steps
    and at the end; of equals the earliest. `temperature`, `prompts` and `max_new_tokens` are as in `stop_at`."""

    every: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    temperature: float = Field(default=0.0, ge=0)
    prompts: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=256, gt=0)

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"batch_size"})


class _MayChoose(Settings):
    """What is trained can be the best by an evaluation, not the last; without it the key is what it was before."""

    best: BestSettings | None = None

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        return found if self.best is not None else {k: v for k, v in found.items() if k != "best"}


Watchdog = Annotated[float | None, Field(gt=0)]


class SFTSettings(_MayChoose):
    """Supervised fine-tuning: `train` are the fields of `trl.SFTConfig`; with `lora` only adapters are trained. `best`
    needs the stage's input `dev`.

    `watchdog_minutes`: the stage ends when no micro-batch has been trained on for so long; null is never.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"guards", "watchdog_minutes"})

    train: dict[str, Any]
    lora: LoraSettings | None = None
    stop_at: StopAtSettings | None = None
    parallel: ParallelSettings = ParallelSettings()
    guards: SFTGuardSettings = SFTGuardSettings()
    watchdog_minutes: Watchdog = 30.0


class ProbeSettings(Settings):
    """Answer the first `prompts` probe prompts greedily at the start, every `every` steps and at the end.

    The answers are kept for people to read; training does not see them.
    """

    every: int = Field(gt=0)
    prompts: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)


class ServerSettings(Settings):
    """The vLLM server that a stage starts (`train.use_vllm` with `vllm_mode: server`), beyond what `train` says of it.

    It takes the last `tensor_parallel` x `data_parallel` GPUs of the stage's node; where the stage has several nodes,
    the last one is the server's. Null is what `train` says: `vllm_tensor_parallel_size`, and
    `vllm_gpu_memory_utilization` or 0.9 without it; one that is said in both places is refused. `dtype` `auto` is that
    in which the trainer computes. `executable` and `start_timeout_s` are those of the engine `vllm`; `extra` holds
    vLLM's own argument names.
    """

    tensor_parallel: int | None = Field(default=None, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_num_seqs: int | None = Field(default=None, ge=1)
    executable: str | None = None
    start_timeout_s: float = Field(default=1800, gt=0)
    extra: dict[str, Any] = {}

    @property
    def gpus(self) -> int:
        """How many GPUs it takes."""
        return (self.tensor_parallel or 1) * self.data_parallel


class CurriculumSettings(Settings):
    """The order in which prompts are asked, by the pass rate that `curate` measured.

    `spread`: the width of the band of pass rates that is asked at one time; 0 sorts strictly. Every pass over the
    prompts goes through the order again; one that the end of the run cuts off is a draw of the prompts, in order.
    """

    order: Literal["easy_to_hard", "hard_to_easy"] = "easy_to_hard"
    spread: float = Field(default=0.2, ge=0)


class LengthStepSettings(Settings):
    """From the optimizer step `from_step` on, completions may have `max_completion_length` tokens."""

    from_step: int = Field(ge=2)
    max_completion_length: int = Field(ge=1)


class GRPOSettings(_MayChoose):
    """Group relative policy optimisation (arXiv 2402.03300): `train` are the fields of `trl.GRPOConfig`.

    `shuffle_rewards` is the control: the totals are permuted across the whole batch by a seeded permutation, the parts
    stay logged as they were. `prefill` is text that every reply is forced to begin with. `reflection_words`: log the
    share of completions that hold one of them. `probes` needs the stage's input of that name, `best` that named `dev`.
    `watchdog_minutes`: the stage ends when no micro-batch has been trained on for so long; null is never. None of
    `reflection_words`, `probes`, `guards` and `watchdog_minutes` changes the model. `curriculum` needs `data` with
    measured pass rates. `general_from_step`: the first step that asks prompts of the types general and harmlessness.
    `length_schedule`: limits that take the place of
    `train.max_completion_length`, each from the first generation at its step or after it. `server` says more of the
    vLLM server that `vllm_mode: server` starts; where it runs does not change the model.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset(
        {"reflection_words", "probes", "guards", "watchdog_minutes", "server"}
    )

    train: dict[str, Any]
    reward: RewardSettings
    lora: LoraSettings | None = None
    shuffle_rewards: bool = False
    prefill: str | None = None
    reflection_words: list[str] = []
    probes: ProbeSettings | None = None
    parallel: ParallelSettings = ParallelSettings()
    guards: GuardSettings = GuardSettings()
    watchdog_minutes: Watchdog = 30.0
    server: ServerSettings | None = None
    curriculum: CurriculumSettings | None = None
    general_from_step: int = Field(default=1, ge=1)
    length_schedule: list[LengthStepSettings] = []

    @model_validator(mode="after")
    def _server_is_used(self) -> GRPOSettings:
        if self.server is None:
            return self
        if mode_of(self.train) != "server":
            raise ValueError("server: nothing asks it; set train.use_vllm=true and train.vllm_mode=server")
        if self.train.get("vllm_server_base_url"):
            raise ValueError("server: it is started here, and train.vllm_server_base_url names another; remove one")
        for name, same in SAID_TWICE.items():
            own, given = getattr(self.server, name), self.train.get(same)
            if own is not None and given is not None:
                raise ValueError(f"server.{name}: {own}, and train.{same}: {given} say the same thing; remove one")
        return self

    def own_server(self) -> ServerSettings | None:
        """The vLLM server that the stage starts, `server` filled up from `train`; None where it starts none."""
        if mode_of(self.train) != "server" or self.train.get("vllm_server_base_url"):
            return None
        said, split = self.server or ServerSettings(), self.train.get("vllm_tensor_parallel_size")
        share = self.train.get("vllm_gpu_memory_utilization")
        named = {
            "tensor_parallel": split if isinstance(split, int) and split > 0 else 1,
            "gpu_memory_utilization": share if isinstance(share, float) else SERVER_SHARE,
        }
        return said.model_copy(update={k: v for k, v in named.items() if getattr(said, k) is None})

    @model_validator(mode="after")
    def _ascending(self) -> GRPOSettings:
        steps = [change.from_step for change in self.length_schedule]
        if steps != sorted(set(steps)):
            raise ValueError(f"length_schedule: from_step goes {', '.join(map(str, steps))}; write them ascending")
        return self

    def max_new_tokens(self, step: int) -> int | None:
        """The most tokens of a completion that is generated for a step; None is no limit but the context."""
        begun = [change.max_completion_length for change in self.length_schedule if change.from_step <= step]
        given = self.train.get("max_completion_length", default("grpo", "max_completion_length"))
        return begun[-1] if begun else given if isinstance(given, int) else None

    def longest(self) -> int | None:
        """The most tokens that a completion may have at any step."""
        first = self.max_new_tokens(1)
        return first and max(first, *(change.max_completion_length for change in self.length_schedule), 0)
