"""An estimate of the memory that one process of a stage needs at its peak, from facts alone; torch-free.

What is counted, with its sources: weights, gradients and optimizer state as they are shared out (ZeRO, arXiv
1910.02054, section 3), activations as transformers' modules keep them for the backward pass (after arXiv 2205.05198,
section 4, for RMSNorm, SwiGLU and grouped-query attention without a materialised score matrix), the LM head in
tiles (as TRL computes it), the KV cache, a reference model, and the share that vLLM is given. docs/memory.md has
the formulas, and what they leave out; a test holds them against measured peaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openr1.engines.settings import EngineSettings, OpenAISettings, SamplingSettings, TransformersSettings
from openr1.models.size import Shape
from openr1.train.fields import Kind, default
from openr1.train.settings import LoraSettings, ParallelSettings

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MASTER = 12  # fp32 master weights and Adam's two moments beside bf16 parameters (ZeRO, section 3.1: K = 12)
QUANTISED = 0.516  # bytes: nf4, 4 bits and 0.127 bits of constants (QLoRA, arXiv 2305.14314, section 3)
TILE = (4096, 32768)  # tokens x vocabulary of TRL's LM head (trl.kernels.chunked_logprob)
LIVE = 10**9  # parameters that ZeRO-3 holds gathered at most (stage3_max_live_parameters)
RUNTIME = {True: 2.0, False: 0.7}  # GiB of CUDA context, libraries and NCCL, or of Python with its libraries
PROMPT_TOKENS = 512  # of a prompt where no setting bounds it (Open-R1's max_prompt_length)
EIGHT_BIT = ("adamw_8bit", "adamw_bnb_8bit", "adamw_torch_8bit", "paged_adamw_8bit", "ademamix_8bit")


@dataclass(frozen=True)
class Memory:
    """GiB of one process. `held` is there all the time; of `training` and `generating` only one at a time."""

    held: dict[str, float]
    training: dict[str, float] = field(default_factory=dict)
    generating: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """Everything that is counted, zeros left out."""
        return {k: v for k, v in (self.held | self.training | self.generating).items() if v > 0}

    @property
    def total(self) -> float:
        """The peak: what is held, and the larger of the two phases."""
        return sum(self.held.values()) + max(sum(self.training.values()), sum(self.generating.values()))


# --------------------------------------------------------------------------------------------------------- training
def training_memory(
    kind: Kind,
    shape: Shape,
    train: Mapping[str, Any],
    parallel: ParallelSettings,
    processes: int = 1,
    *,
    context: int | None = None,
    dtype: str = "bfloat16",
    gpu_gib: float | None = None,
    lora: LoraSettings | None = None,
) -> Memory:
    """The peak of one training process in GiB; `gpu_gib` is a GPU's memory, None a CPU.

    `dtype` is what the weights are loaded in; without a GPU everything is float32.
    """
    gpu = gpu_gib is not None
    size = BYTES[dtype] if gpu else 4
    rows, prompt, new = lengths(kind, train, context)
    held = _states(shape, train, parallel, processes, size, gpu, lora)
    if kind == "grpo" and _of(kind, train, "beta") and lora is None:
        held["reference model"] = _spread(shape.parameters * size, parallel, processes, ("zero3", "fsdp2"))
    training = _activations(shape, train, rows, prompt + new, size, gpu)
    head = _head(shape, rows * (new or prompt), size, trained=lora is None)
    training["working"] = max(head, training["working"])  # they follow each other
    training["gathered"] = _gathered(shape, parallel, size)
    generating: dict[str, float] = {}
    notes = [
        f"{rows} x {prompt + new} tokens a process" if new == 0 else f"{rows} x ({prompt} + {new}) tokens a process"
    ]
    if kind == "grpo":
        sharded = parallel.kind in ("zero3", "fsdp2")
        if not _of(kind, train, "use_vllm"):
            generating["KV cache"] = rows * _steps(train) * kv_bytes(shape, prompt + new, size)
            generating["gathered to generate"] = shape.parameters * size if sharded else 0.0
        elif _of(kind, train, "vllm_mode") == "colocate" and gpu_gib is not None:
            share = _of(kind, train, "vllm_gpu_memory_utilization") * gpu_gib * GIB
            asleep = bool(_of(kind, train, "vllm_enable_sleep_mode"))
            (generating if asleep else held)["vLLM"] = share
            if sharded and asleep:
                generating["gathered to send"] = _gathered(shape, parallel, size)
    held["runtime"] = RUNTIME[gpu] * GIB
    return Memory(_gib(held), _gib(training), _gib(generating), tuple(notes))


def lengths(kind: Kind, train: Mapping[str, Any], context: int | None) -> tuple[int, int, int]:
    """(rows of a micro-batch, longest prompt, longest completion); SFT rows are whole, with no completion apart."""
    rows = int(_of(kind, train, "per_device_train_batch_size"))
    if kind == "sft":
        longest = train.get("max_length", default("sft", "max_length")) or context or PROMPT_TOKENS
        return rows, min(int(longest), context or int(longest)), 0
    new = int(_of(kind, train, "max_completion_length") or 0)
    room = train.get("vllm_max_model_length") or context
    prompt = max(room - new, 0) if room else PROMPT_TOKENS
    return rows, min(prompt, PROMPT_TOKENS), new


def _of(kind: Kind, train: Mapping[str, Any], name: str) -> Any:
    return train[name] if train.get(name) is not None else default(kind, name)


def _steps(train: Mapping[str, Any]) -> int:
    """Micro-batches that one generation serves: TRL generates them together."""
    given = train.get("steps_per_generation") or train.get("gradient_accumulation_steps") or 1
    return int(given)


def _spread(amount: float, parallel: ParallelSettings, processes: int, kinds: tuple[str, ...]) -> float:
    """What one process holds of `amount` where these kinds of parallelism share it out."""
    return amount / processes if parallel.kind in kinds else amount


def _states(
    shape: Shape,
    train: Mapping[str, Any],
    parallel: ParallelSettings,
    processes: int,
    size: int,
    gpu: bool,
    lora: LoraSettings | None,
) -> dict[str, float]:
    """Weights, gradients and optimizer state of one process, in bytes (ZeRO, figure 1)."""
    deep, fsdp = parallel.kind in ("zero2", "zero3"), parallel.kind == "fsdp2"
    trained = lora_parameters(shape, lora) if lora else shape.parameters
    width = 4 if lora or (fsdp and gpu) else size  # adapters, and FSDP2's shards under bf16, are float32
    base = float(shape.parameters * (4 if fsdp and gpu and not lora else size))
    if lora and lora.quantize == "nf4":
        base -= shape.linear_parameters * (size - QUANTISED)
    weights = base + (trained * width if lora else 0)
    moments = 2.0 if str(train.get("optim", "")).lower() in EIGHT_BIT else 2.0 * (4 if deep else width)
    optimizer = trained * (moments + (4 if deep and width == 2 else 0))
    gradients = trained * width * (2 if parallel.kind == "ddp" else 1)  # DDP's buckets are a copy
    states = {
        "weights": _spread(weights, parallel, processes, ("zero3", "fsdp2")),
        "gradients": _spread(gradients, parallel, processes, ("zero2", "zero3", "fsdp2")),
        "optimizer": _spread(optimizer, parallel, processes, ("zero2", "zero3", "fsdp2")),
    }
    if gpu and parallel.offload != "none":
        states["optimizer"] = 0.0
    if gpu and parallel.offload == "all":
        states["weights"] = states["gradients"] = 0.0
    return states


def lora_parameters(shape: Shape, lora: LoraSettings) -> int:
    """Parameters of the adapters: r x (inputs + outputs) of every linear map that has one."""
    targets = shape.linears if "all-linear" in lora.target_modules else lora.target_modules
    maps = [shape.linears[name] for name in targets if name in shape.linears]
    return shape.layers * sum(lora.r * (i + o) * n for i, o, n in maps)


def _gathered(shape: Shape, parallel: ParallelSettings, size: int) -> float:
    """Parameters that are whole for a moment: a few layers, and buckets of gradients on their way."""
    if parallel.kind == "zero3":
        return 2 * size * min(shape.parameters, LIVE)
    if parallel.kind == "fsdp2":
        return size * (2 * shape.layer_parameters + shape.embedding * (1 if shape.tied else 2))
    return 2 * size * min(shape.parameters, LIVE // 2) if parallel.kind == "zero2" else 0.0


# ------------------------------------------------------------------------------------------------------- activations
def layer_bytes(shape: Shape, size: int, liger: bool = False) -> int:
    """Bytes that one layer keeps of one token for the backward pass, where nothing is recomputed."""
    h, q, kv = shape.hidden, shape.q, shape.kv
    norm = 4 + size if size < 4 else 8  # RMSNorm keeps its input in float32, and what it multiplies the weight with
    kept = 2 * h * (size if liger else norm) + 2 * 4  # before attention and before the MLP, with their scales
    kept += 2 * h * size  # what the two norms put out
    kept += size * (2 * q + 2 * kv) + 4 * shape.heads  # queries, keys, values, the attention's output and its log-sums
    if shape.qk_norm:
        kept += (q + kv) * (size if liger else norm) + 4 * (shape.heads + shape.kv_heads)
    if not shape.moe:
        return kept + size * shape.ffn * (3 if liger else 4)
    routed = shape.active * (size * (4 * shape.ffn + 2 * h) + 28 + size)
    return kept + routed + 4 * shape.experts + 8 * shape.active


def _activations(
    shape: Shape, train: Mapping[str, Any], rows: int, length: int, size: int, gpu: bool
) -> dict[str, float]:
    """Bytes kept from the forward pass of a micro-batch, and what the backward pass of one layer works with.

    With checkpointing the inputs of the layers are kept and the inside of one is computed again; with
    `activation_offloading` what is kept lies in the memory of the host.
    """
    tokens = rows * length
    checkpointing = train["gradient_checkpointing"] if train.get("gradient_checkpointing") is not None else gpu
    layer = layer_bytes(shape, size, bool(train.get("use_liger_kernel")))
    kept = shape.layers * (shape.hidden * size if checkpointing else layer)
    ends = (8 + size if size < 4 else 12) * shape.hidden  # the last norm, and the hidden states that the head reads
    within = size * (2 * shape.ffn * shape.active + 2 * shape.hidden)  # gradients inside the layer that is worked on
    attention = str((train.get("model_init_kwargs") or {}).get("attn_implementation") or "sdpa")
    scores = 0
    if attention == "eager":
        scores = rows * shape.heads * length * length * (4 + 2 * size)
    elif "flash" not in attention and gpu:
        scores = rows * length * length  # the mask of padded rows, a byte a pair
    kept = 0 if train.get("activation_offloading") else tokens * kept
    return {"activations": kept + tokens * ends, "working": tokens * (within + layer * checkpointing) + scores}


def _head(shape: Shape, tokens: int, size: int, trained: bool) -> float:
    """TRL's LM head: one tile of logits, float32 gradients of the hidden states and of the head's weights."""
    tile = min(tokens, TILE[0]) * TILE[1] * size
    return tile + tokens * shape.hidden * (4 + size) + (shape.embedding * 4 if trained else 0)


# -------------------------------------------------------------------------------------------------------- generation
def kv_bytes(shape: Shape, tokens: int, size: int) -> float:
    """Bytes of the keys and values of one sequence."""
    return 2.0 * shape.layers * shape.kv * size * tokens


def generation_memory(
    shape: Shape,
    engine: EngineSettings,
    sampling: SamplingSettings,
    *,
    context: int | None = None,
    dtype: str = "bfloat16",
    gpu_gib: float | None = None,
) -> Memory | None:
    """What an engine needs to generate; None where it runs elsewhere. vLLM takes its share whatever it needs."""
    if isinstance(engine, OpenAISettings):
        return None
    gpu = gpu_gib is not None
    size = BYTES[dtype] if gpu else 4
    tokens = min(PROMPT_TOKENS, context or PROMPT_TOKENS) + sampling.max_new_tokens
    held = {"runtime": RUNTIME[gpu] * GIB}
    if isinstance(engine, TransformersSettings):
        held["weights"] = shape.parameters * size
        cache = engine.batch_size * kv_bytes(shape, tokens, size)
        return Memory(_gib(held), {}, _gib({"KV cache": cache}), (f"{engine.batch_size} x {tokens} tokens",))
    split = engine.tensor_parallel * engine.pipeline_parallel
    held["weights"] = shape.parameters * size / split
    one = kv_bytes(shape, engine.max_model_len or context or tokens, size) / engine.tensor_parallel
    share = f"vLLM takes {engine.gpu_memory_utilization:.0%} of the memory, what is left of it is cache"
    return Memory(_gib(held), {}, _gib({"KV cache of one sequence": one}), (share,))


def colocate_needs(shape: Shape, train: Mapping[str, Any], context: int | None, size: int = 2) -> float:
    """GiB that vLLM beside the trainer needs at least: weights, the cache of one sequence, and its own buffers."""
    split = int(_of("grpo", train, "vllm_tensor_parallel_size"))
    _, prompt, new = lengths("grpo", train, context)
    longest = train.get("vllm_max_model_length") or prompt + new
    return (shape.parameters * size / split + kv_bytes(shape, longest, size) / split) / GIB + 1.0


# -------------------------------------------------------------------------------------------------------------- disk
def checkpoint_bytes(
    shape: Shape, parallel: ParallelSettings, dtype: str, gpu: bool, lora: LoraSettings | None = None
) -> float:
    """Bytes of one checkpoint: what is trained, and the optimizer's state."""
    size = BYTES[dtype] if gpu else 4
    if lora is not None:
        return lora_parameters(shape, lora) * 12.0  # float32 adapters with two moments
    deep = parallel.kind in ("zero2", "zero3")
    return shape.parameters * (size + (MASTER if deep else 2.0 * size))


def _gib(amounts: Mapping[str, float]) -> dict[str, float]:
    return {name: amount / GIB for name, amount in amounts.items()}
