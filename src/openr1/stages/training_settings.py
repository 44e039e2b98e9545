"""Settings of the stages that train. How they are spread over processes is no part of what they make."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from openr1.stages.base_settings import InputSpec, NeedsModel, reads
from openr1.train.fields import default
from openr1.train.settings import GRPOSettings, ParallelSettings, SFTSettings


class _Trains(NeedsModel):
    """A stage that trains a model, on one process or on several.

    How many processes share a batch is no part of its identity, the size of the whole batch is.
    """

    train: dict[str, Any]
    parallel: ParallelSettings

    @property
    def training_gpus(self) -> int:
        """How many GPUs train."""
        return self.resources.nodes * self.resources.gpus

    @property
    def world_size(self) -> int:
        """How many processes train."""
        return self.parallel.world_size(self.training_gpus)

    def identity(self) -> dict[str, Any]:
        """As if one process took the batches of all; where vLLM runs, and with what share of a GPU, is left out."""
        found = super().identity()
        found["train"] = {k: v for k, v in found["train"].items() if k not in PLACES_OF_VLLM}
        if self.world_size > 1:
            whole = _batch_of_one(self.kind, self.train) * self.world_size
            found["train"] = found["train"] | {"per_device_train_batch_size": whole}
        return found


# arguments of TRL that say where vLLM runs and what it is given, as an engine's are left out of generate's key
PLACES_OF_VLLM = frozenset(
    {
        "vllm_mode", "vllm_server_base_url", "vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization",
        "vllm_tensor_parallel_size", "vllm_enable_sleep_mode",
    }
)  # fmt: skip


def _batch_of_one(kind: str, train: dict[str, Any]) -> int:
    name = "per_device_train_batch_size"
    given = train.get(name)
    return given if isinstance(given, int) else default("sft" if kind == "sft" else "grpo", name)


class SFTStage(SFTSettings, _Trains):
    """Supervised fine-tuning with TRL; also the pre-training of a model from scratch."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources", "parallel"}) | SFTSettings.NOT_IDENTITY
    INPUTS: ClassVar[dict[str, InputSpec]] = {
        "data": reads("prompts", "sft"),
        "model": reads("model", required=False),
        "dev": reads("prompts", required=False),
    }

    kind: Literal["sft"]

    def outputs(self) -> dict[str, str]:
        return {"model": "model"}


class GRPOStage(GRPOSettings, _Trains):
    """Reinforcement learning (GRPO) with TRL: with verifiable rewards, and with preferences.

    Prompts of `data` are of type reasoning; those of the inputs `general` and `harmlessness` join them under these
    types, and need no answers.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources", "parallel"}) | GRPOSettings.NOT_IDENTITY
    INPUTS: ClassVar[dict[str, InputSpec]] = {
        "data": reads("prompts", "rl"),
        "general": reads("prompts", "rl", required=False),
        "harmlessness": reads("prompts", "rl", required=False),
        "model": reads("model", required=False),
        "probes": reads("prompts", "rl", required=False),
        "dev": reads("prompts", "rl", required=False),
    }

    kind: Literal["grpo"]

    @property
    def training_gpus(self) -> int:
        """Those that a vLLM server leaves."""
        nodes, gpus, server = self.resources.nodes, self.resources.gpus, self.own_server()
        serving = 0 if server is None else gpus if nodes > 1 else server.gpus
        return max(0, nodes * gpus - serving)

    @model_validator(mode="after")
    def _server_leaves_room(self) -> GRPOStage:
        nodes, gpus, server = self.resources.nodes, self.resources.gpus, self.own_server()
        if server is None or not gpus:
            return self
        if server.gpus > gpus - (nodes == 1):
            here = f"the last node has {gpus}" if nodes > 1 else f"the node has {gpus} and one has to train"
            less = "lower its tensor_parallel (train.vllm_tensor_parallel_size) or data_parallel"
            raise ValueError(f"server: takes {server.gpus} GPUs, {here}; {less}")
        return self

    def outputs(self) -> dict[str, str]:
        return {"model": "model"}
