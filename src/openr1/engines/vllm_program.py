"""The program `vllm`: where it is, with which arguments and environment it is started, on which GPUs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openr1
from openr1.engines.gpus import visible
from openr1.engines.settings import VLLMSettings
from openr1.errors import UserError
from openr1.nodes.base import Node

HOW_TO_GET = "make setup-vllm builds .venv-vllm, `pip install 'openr1[vllm]'` installs it for a GPU"
# what a CPU build of vLLM needs; a value that the user has set is left alone
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
}
SILENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
CPU_BATCH = 2048  # tokens


def find_executable(setting: str | None) -> str:
    """The `vllm` program: the setting, OPENR1_VLLM, beside this Python, on the PATH, in `.venv-vllm` of the working
    directory or of this checkout."""
    for named, source in ((setting, "engine.executable"), (os.environ.get("OPENR1_VLLM"), "OPENR1_VLLM")):
        if named:
            found = shutil.which(named)
            if found is None:
                raise UserError(f"{source} names {named}, which is no program; name the vllm of its environment")
            return found
    beside = Path(sys.executable).parent / "vllm"
    checkout = Path(openr1.__file__).resolve().parents[2]
    environments = [folder / ".venv-vllm" / "bin" / "vllm" for folder in (Path.cwd(), checkout)]
    for candidate in (str(beside), "vllm", *map(str, environments)):
        if found := shutil.which(candidate):
            return found
    raise UserError(
        f"no vllm program beside {sys.executable}, on the PATH or in .venv-vllm; {HOW_TO_GET}; or set "
        "engine.executable to the vllm of another environment"
    )


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    return [gpu.id for gpu in visible()]


def split_gpus(gpus: Sequence[str], settings: VLLMSettings) -> list[list[str]]:
    """The GPUs of each replica; empty lists on a machine without any.

    Raises:
        UserError: fewer GPUs than the replicas take together.
    """
    each = settings.tensor_parallel * settings.pipeline_parallel
    if gpus and each * settings.data_parallel > len(gpus):
        raise UserError(
            f"data_parallel {settings.data_parallel} × tensor_parallel {settings.tensor_parallel} × pipeline_parallel "
            f"{settings.pipeline_parallel} needs {each * settings.data_parallel} GPUs, {len(gpus)} are visible; "
            "lower engine.data_parallel or engine.tensor_parallel"
        )
    return [list(gpus[i * each : (i + 1) * each]) for i in range(settings.data_parallel)]


@dataclass(frozen=True)
class Place:
    """Where a replica runs: its node and, of that, its GPUs (none on a machine without)."""

    node: Node
    gpus: list[str]


def place_replicas(nodes: Sequence[Node], settings: VLLMSettings) -> list[Place]:
    """A place for each of the replicas, spread over the nodes in their order; those of a job say which GPUs they have.

    Raises:
        UserError: fewer GPUs than the replicas take.
    """
    if len(nodes) == 1:
        gpus = visible_gpus() if nodes[0].job is None else nodes[0].gpus
        return [Place(nodes[0], share) for share in split_gpus(gpus, settings)]
    each = settings.tensor_parallel * settings.pipeline_parallel
    places, count = [], settings.data_parallel
    for n, node in enumerate(nodes):
        own = -(-count * (n + 1) // len(nodes)) - -(-count * n // len(nodes))
        if node.gpus and own * each > len(node.gpus):
            raise UserError(
                f"{own} replicas of tensor_parallel {settings.tensor_parallel} × pipeline_parallel "
                f"{settings.pipeline_parallel} on {node.name} need {own * each} GPUs, it has {len(node.gpus)}; lower "
                "engine.data_parallel, or ask for more nodes"
            )
        places += [Place(node, node.gpus[i * each : (i + 1) * each]) for i in range(own)]
    return places


def engine_arguments(settings: VLLMSettings, gpu: bool, context: int | None) -> dict[str, Any]:
    """vLLM's own argument names and values, for a server and for an engine in this process alike.

    Args:
        context: the model's own, in tokens. On a CPU prompts are not cut into chunks (in vLLM 0.32 a seeded request
            in chunks ends the engine), so a batch has to have room for the longest.
    """
    arguments: dict[str, Any] = {
        "dtype": settings.dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "seed": 0,
        "generation_config": "vllm",  # the recipe says how to sample, not the model's folder
    }
    if settings.max_model_len is not None:
        arguments["max_model_len"] = settings.max_model_len
    if settings.max_num_seqs is not None:
        arguments["max_num_seqs"] = settings.max_num_seqs
    if gpu:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    else:
        arguments |= {
            "dtype": "float32" if settings.dtype == "auto" else settings.dtype,
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCH, settings.max_model_len or context or 0),
        }
    return {k: v for k, v in (arguments | settings.extra).items() if v is not None}


def as_flags(arguments: Mapping[str, Any]) -> list[str]:
    """`{"max_num_seqs": 8, "enforce_eager": True}` as `--max-num-seqs 8 --enforce-eager`; False is `--no-…`.

    >>> as_flags({"max_num_seqs": 8, "enforce_eager": True, "enable_chunked_prefill": False})
    ['--max-num-seqs', '8', '--enforce-eager', '--no-enable-chunked-prefill']
    """
    flags: list[str] = []
    for name, value in arguments.items():
        word = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{word}" if value else f"--no-{word}")
        else:
            flags += [f"--{word}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return flags


def cpu_environment(replicas: int = 1) -> dict[str, str]:
    """What a CPU build needs, as far as the environment does not say otherwise; threads are shared by the replicas."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = CPU_ENVIRONMENT | {"OMP_NUM_THREADS": str(max(1, cores // replicas))}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def set_environment(gpu: bool) -> None:
    """What vLLM reads in a process that it shares with its user: no telemetry, the engine in this very process."""
    wanted = {**SILENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", **({} if gpu else cpu_environment())}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
