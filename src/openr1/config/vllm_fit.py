"""What a GRPO stage that has vLLM draw its rollouts asks for and cannot have: GPUs for two, room, seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openr1.stages.settings import GRPOStage, StageSettings
from openr1.train.vllm_rollouts import mode_of

OF_ANOTHER = ("vllm_tensor_parallel_size", "vllm_gpu_memory_utilization")  # who starts a server decides them


def has_own_server(settings: StageSettings) -> bool:
    """Whether a stage starts a vLLM server, which takes a share of its GPUs."""
    return isinstance(settings, GRPOStage) and settings.own_server() is not None


def vllm_problems(settings: GRPOStage) -> Iterator[str]:
    """Lines without the stage's name in front."""
    train, mode = settings.train, mode_of(settings.train)
    if mode is None:
        return
    own = train.get("generation_kwargs") or {}
    for name in ("seed", "n"):
        if name in own:
            why = "makes the samples of a prompt copies of each other" if name == "seed" else "belongs to the trainer"
            yield f"train.generation_kwargs.{name}: {why}; remove it, every row has a seed of its own"
    longest, new = train.get("vllm_max_model_length"), settings.longest()
    if isinstance(longest, int) and isinstance(new, int) and longest <= new:
        yield f"train.vllm_max_model_length: {longest} leaves no room for a prompt beside max_completion_length {new}"
    if mode == "colocate" and train.get("vllm_server_base_url"):
        yield "train.vllm_server_base_url: is for vllm_mode server; remove it, or set train.vllm_mode server"
    if mode == "server":
        yield from _server_problems(settings, train)


def _server_problems(settings: GRPOStage, train: dict[str, Any]) -> Iterator[str]:
    if settings.lora is not None and settings.lora.quantize != "none":
        yield "lora.quantize: a vLLM server takes whole weights, not 4-bit ones; use train.vllm_mode colocate"
    if train.get("vllm_enable_sleep_mode"):
        yield "train.vllm_enable_sleep_mode: is for vllm_mode colocate, a server has GPUs of its own; remove it"
    if url := train.get("vllm_server_base_url"):
        for name in (name for name in OF_ANOTHER if name in train):
            yield f"train.{name}: was decided where the server at {url} was started; remove it"
        return
    yield from _share_problems(settings)


def _share_problems(settings: GRPOStage) -> Iterator[str]:
    """The GPUs of one node are those that train and, behind them, those of the server."""
    server, gpus = settings.own_server(), settings.resources.gpus
    if server is None or not gpus or settings.resources.nodes > 1:
        return
    if settings.world_size + server.gpus != gpus:
        yield (
            f"resources.gpus: {gpus}, but {settings.world_size} that train and {server.gpus} of the vLLM server "
            f"(train.vllm_tensor_parallel_size, or server) are {settings.world_size + server.gpus}; set that"
        )
