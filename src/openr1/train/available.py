"""What a stage's `train` and `parallel` want of the machine: packages that are in no environment by default, and GPUs.

Nothing is imported to find out, so `openr1 check` asks before a GPU is used and the trainer asks again where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from openr1.engines.vllm_program import HOW_TO_GET
from openr1.train.settings import ParallelSettings
from openr1.train.vllm_rollouts import mode_of


@dataclass(frozen=True)
class Need:
    """A setting that needs a package (the name it is imported by, the name it is installed by) or a GPU.

    `how`: what to do where a `pip install` of the package is not it.
    """

    setting: str
    module: str | None = None
    package: str | None = None
    gpu: bool = False
    how: str | None = None


# the beginning of a name of `optim` -> module, package; 8-bit and paged states live on a GPU
OPTIMIZERS: tuple[tuple[str, str, str], ...] = (
    ("galore_", "galore_torch", "galore-torch"),
    ("apollo_", "apollo_torch", "apollo-torch"),
    ("schedule_free_", "schedulefree", "schedulefree"),
    ("lomo", "lomo_optim", "lomo-optim"),
    ("adalomo", "lomo_optim", "lomo-optim"),
    ("grokadamw", "grokadamw", "grokadamw"),
    ("stable_adamw", "optimi", "torch-optimi"),
    ("adamw_anyprecision", "torchdistx", "torchdistx"),
    ("adamw_torch_4bit", "torchao", "torchao"),
    ("adamw_torch_8bit", "torchao", "torchao"),
    ("adamw_torch_npu", "torch_npu", "torch-npu"),
    ("adamw_torch_xla", "torch_xla", "torch-xla"),
)
BITSANDBYTES = ("8bit", "paged_", "_bnb", "ademamix", "lion_")
ATTENTION = {
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}

VLLM = f"{HOW_TO_GET}; then run .venv-vllm/bin/openr1 in place of openr1"
# sleeping frees a GPU's memory; the weights reach a server that another has started by NCCL
GPU_ONLY_OF_VLLM: dict[str | None, tuple[str, ...]] = {
    None: (), "colocate": ("vllm_enable_sleep_mode",), "server": ("vllm_server_base_url",),
}  # fmt: skip


def needs(train: Mapping[str, Any], parallel: ParallelSettings) -> Iterator[Need]:
    """Everything that the settings want beyond what openr1 installs."""
    if train.get("use_liger_kernel"):
        yield Need("train.use_liger_kernel", "liger_kernel", "liger-kernel", gpu=True)
    yield from _attention((train.get("model_init_kwargs") or {}).get("attn_implementation"))
    optim = train.get("optim")
    if isinstance(optim, str):
        yield from _optimizer(optim)
    if mode_of(train) is not None:
        yield Need("train.use_vllm", "vllm", "vLLM in the environment that trains", how=VLLM)
    for name in ("fp16", "tf32", *GPU_ONLY_OF_VLLM[mode_of(train)]):
        if train.get(name):
            yield Need(f"train.{name}", gpu=True)
    if parallel.kind in ("zero2", "zero3"):
        yield Need(f"parallel.kind {parallel.kind}", "deepspeed", "openr1[deepspeed]")
    if parallel.kind == "fsdp2":  # on a CPU accelerate runs DDP in its place, and says nothing
        yield Need("parallel.kind fsdp2", gpu=True)


def _attention(name: Any) -> Iterator[Need]:
    if not isinstance(name, str):
        return
    setting = f"train.model_init_kwargs.attn_implementation {name}"
    if "/" in name:
        yield Need(setting, "kernels", "kernels", gpu=True)
    elif plain := ATTENTION.get(name.rpartition("|")[2]):
        yield Need(setting, *plain, gpu=True)


def _optimizer(name: str) -> Iterator[Need]:
    setting = f"train.optim {name}"
    for start, module, package in OPTIMIZERS:
        if name.startswith(start):
            yield Need(setting, module, package)
            return
    if any(piece in name for piece in BITSANDBYTES):
        yield Need(setting, "bitsandbytes", "bitsandbytes", gpu=True)


def installed(module: str) -> bool:
    """Whether a package is there to be imported."""
    return find_spec(module) is not None


def unavailable(
    train: Mapping[str, Any],
    parallel: ParallelSettings,
    gpu: bool,
    has: Callable[[str], bool] = installed,
) -> list[str]:
    """One line for each setting that this machine cannot do; [] when it can do all. `gpu`: whether one is here.

    >>> unavailable({"fp16": True}, ParallelSettings(), gpu=False)
    ['train.fp16: needs a GPU, and none is here; leave it out, or run where there is one']
    """
    problems = []
    for need in needs(train, parallel):
        lacks = need.module is not None and not has(need.module)
        if lacks:
            also = " and a GPU" if need.gpu and not gpu else ""
            problems.append(
                f"{need.setting}: needs {need.package}{also}, which {'are' if also else 'is'} not here; "
                + (need.how or f"pip install '{need.package}', or choose another")
            )
        elif need.gpu and not gpu:
            problems.append(f"{need.setting}: needs a GPU, and none is here; leave it out, or run where there is one")
    return problems


def packing_warning(train: Mapping[str, Any]) -> str | None:
    """What was published on packing: it saves padding, and reasoning models came out worse (Open-R1, update 3)."""
    if not train.get("packing"):
        return None
    return "train.packing: Open-R1 (update 3) saw reasoning models trained on packed rows come out worse; compare"
