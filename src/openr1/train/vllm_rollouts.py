"""Rollouts that vLLM draws for the trainer: in the trainer's own processes (colocate), or on a server.

TRL moves the weights and corrects for the distance of the two (truncated importance sampling); what is decided here is
what TRL leaves to vLLM's defaults: the engine's dtype (that in which the trainer computes; vLLM's own choice for a
float32 model is half precision), what ends a completion (the ends that grading knows), and a seed for each row that
is a function of (seed, micro-step, row), so that another seed draws other noise, k samples are k draws, and a resumed
run draws with the seeds of an undisturbed one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.engines.settings import VLLMSettings
from openr1.engines.vllm_program import CPU_BATCH, set_environment, visible_gpus
from openr1.errors import UserError
from openr1.records import request_seed
from openr1.train.fields import default

if TYPE_CHECKING:
    from openr1.engines.server import Servers
    from openr1.train.parallel import World

logger = logging.getLogger("openr1")

ENDED = ("stop", "length")  # how vLLM says that a completion ended well
START_TIMEOUT_S = 1800.0
SERVER_SHARE = 0.9  # of a GPU's memory, which a server has to itself; TRL's default is one beside a trainer


def mode_of(train: Mapping[str, Any]) -> str | None:
    """`colocate` or `server` where a `train:` block has vLLM draw, else None."""
    if not train.get("use_vllm"):
        return None
    return str(train.get("vllm_mode") or default("grpo", "vllm_mode"))


@dataclass(frozen=True)
class VLLMRollouts:
    """How vLLM draws for one trainer.

    `dtype`: what it computes in. `ends`: token ids that end a completion. `engine`: arguments of an engine in this
    process beyond those that TRL gives. `servers`: the server that this stage has started; `files`: where weights lie
    for it, on a machine without NCCL's GPUs.
    """

    seed: int
    ends: Sequence[int]
    dtype: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    servers: Servers | None = None
    files: Path | None = None

    def row_seeds(self, micro_step: int, first: int, rows: int) -> list[int]:
        """The seeds of `rows` rows from row `first` of the whole batch: those of our own engine's rollouts."""
        return [request_seed(self.seed, f"step {micro_step}", first + row) for row in range(rows)]

    def last_words(self) -> str:
        """Why the server of this stage has ended; "" where it has not, or is another's."""
        gone = [s for s in self.servers.servers.values() if s.ended] if self.servers else []
        return f"; it ended: {gone[0].last_words()} (log: {gone[0].log})" if gone else ""


def compute_dtype(model: Any, arguments: Any) -> str:
    """The dtype that the trainer computes in, by vLLM's name: that of its weights, or of its autocast."""
    weights = str(model.dtype).removeprefix("torch.")
    if weights != "float32":
        return weights
    return "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32"


def colocate_arguments(dtype: str, gpu: bool, longest: int) -> dict[str, Any]:
    """What vLLM's engine is given beside TRL's arguments; `longest` is the longest sequence in tokens.

    On a CPU nothing is compiled, and prompts are not cut into chunks: in vLLM 0.32 a request with a seed that is
    ends the engine.
    """
    arguments: dict[str, Any] = {"dtype": dtype, "generation_config": "vllm"}
    if not gpu:
        room = max(CPU_BATCH, longest)
        arguments |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": room}
    return arguments


@contextmanager
def vllm_rollouts(
    arguments: Any,
    model: Any,
    ends: Sequence[int],
    probe: list[int],
    seed: int,
    longest: int,
    world: World,
    logs: Path,
) -> Iterator[VLLMRollouts | None]:
    """How vLLM draws for a trainer with `arguments`, None where it does not; a server runs while the block does.

    Args:
        ends: token ids that end a completion.
        probe: token ids of a short prompt, for the completion that shows that a server works.
        longest: the longest sequence in tokens.

    Raises:
        UserError: the server ended before it answered. OutsideError: it does not answer in time.
    """
    if not arguments.use_vllm:
        yield None
        return
    gpu = arguments.device.type == "cuda"
    set_environment(gpu)
    plan = VLLMRollouts(seed, list(ends), compute_dtype(model, arguments))
    if arguments.vllm_mode == "colocate":
        yield replace(plan, engine=colocate_arguments(plan.dtype, gpu, longest))
        return
    files = None if gpu else Path(arguments.output_dir) / ".weights"
    if arguments.vllm_server_base_url is not None or not world.main:
        yield replace(plan, files=files)
        return
    servers = start_server(arguments, model, plan.dtype, probe, longest, world.size, logs)
    try:
        arguments.vllm_server_base_url = next(iter(servers.servers)).removesuffix("/v1")
        yield replace(plan, servers=servers, files=files)
    finally:
        servers.close()


def start_server(
    arguments: Any, model: Any, dtype: str, probe: list[int], longest: int, trainers: int, logs: Path
) -> Servers:
    """`vllm serve` on the GPUs behind those that train, with what TRL needs of it; returns when it answers."""
    from openr1.engines.server import vllm_servers

    gpus, split = visible_gpus(), arguments.vllm_tensor_parallel_size
    own = gpus[trainers : trainers + split]
    if gpus and len(own) < split:
        raise UserError(
            f"train.vllm_mode server: {trainers} that train and {split} of the vLLM server "
            f"(train.vllm_tensor_parallel_size) are {trainers + split} GPUs, {len(gpus)} are visible"
        )
    share = arguments.vllm_gpu_memory_utilization
    settings = VLLMSettings(
        name="vllm",
        dtype=dtype,  # type: ignore[arg-type]
        tensor_parallel=split,
        max_model_len=longest,
        gpu_memory_utilization=SERVER_SHARE if share == default("grpo", "vllm_gpu_memory_utilization") else share,
        start_timeout_s=START_TIMEOUT_S,
        extra=server_arguments(bool(gpus)),
    )
    servers = vllm_servers(settings, Path(model.name_or_path), logs, probe, longest, own)
    for server in servers.servers.values():
        server.environment["VLLM_SERVER_DEV_MODE"] = "1"  # weights and caches are reached by its endpoints
    servers.start()
    return servers


def server_arguments(gpu: bool) -> dict[str, Any]:
    """What TRL needs of a server: log-probabilities as they were sampled from, and a door for the weights."""
    arguments: dict[str, Any] = {"logprobs_mode": "processed_logprobs", "max_logprobs": -1}
    return arguments | ({"weight_transfer_config": {"backend": "nccl"}} if gpu else {})
