"""Rollouts that vLLM draws for the trainer: in the trainer's own processes (colocate), or on a server.

TRL moves the weights and corrects for the distance of the two (truncated importance sampling); what is decided here is
what TRL leaves to vLLM's defaults: the engine's dtype (that in which the trainer computes; vLLM's own choice for a
float32 model is half precision), what ends a completion (the ends that grading knows), and a seed for each row that
is a function of (seed, micro-step, row), so that another seed draws other noise, k samples are k draws, and a resumed
run draws with the seeds of an undisturbed one.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from openr1.engines.vllm_program import CPU_BATCH, set_environment
from openr1.errors import OutsideError, UserError
from openr1.records import request_seed
from openr1.train.fields import default

logger = logging.getLogger("openr1")

ENDED = ("stop", "length")  # how vLLM says that a completion ended well
SERVER_SHARE = 0.9  # of a GPU's memory, which a server has to itself; TRL's default is one beside a trainer
OWN_SERVER = "OPENR1_ROLLOUT_SERVER"
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # of safetensors


def mode_of(train: Mapping[str, Any]) -> str | None:
    """`colocate` or `server` where a `train:` block has vLLM draw, else None."""
    if not train.get("use_vllm"):
        return None
    return str(train.get("vllm_mode") or default("grpo", "vllm_mode"))


@dataclass(frozen=True)
class OwnServer:
    """The server that the stage's owner has started, as the processes that train are told of it, by their environment.

    `port`: where rank 0 listens to hand weights over; None is TRL's.
    """

    url: str
    key: str
    dtype: str
    port: int | None = None

    def environment(self) -> dict[str, str]:
        """What a rank has to have in its environment."""
        return {OWN_SERVER: json.dumps(asdict(self))}

    @classmethod
    def told(cls) -> OwnServer | None:
        """Whether this process was told of one."""
        said = os.environ.get(OWN_SERVER)
        return cls(**json.loads(said)) if said else None


@dataclass(frozen=True)
class VLLMRollouts:
    """How vLLM draws for one trainer.

    `dtype`: what it computes in. `ends`: token ids that end a completion. `engine`: arguments of an engine in this
    process beyond those that TRL gives. `server`: the one that this stage has started; `files`: where weights lie
    for it, on a machine without NCCL's GPUs.
    """

    seed: int
    ends: Sequence[int]
    dtype: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    server: OwnServer | None = None
    files: Path | None = None

    def row_seeds(self, micro_step: int, first: int, rows: int) -> list[int]:
        """The seeds of `rows` rows from row `first` of the whole batch: those of our own engine's rollouts."""
        return [request_seed(self.seed, f"step {micro_step}", first + row) for row in range(rows)]


def compute_dtype(model: Any, arguments: Any) -> str:
    """The dtype that the trainer computes in, by vLLM's name: that of its weights, or of its autocast."""
    return _computed(str(model.dtype).removeprefix("torch."), arguments.bf16, arguments.fp16)


def planned_dtype(model: Path, train: Mapping[str, Any], gpu: bool) -> str:
    """`compute_dtype` before anything is loaded, from the files of the model and the `train` block."""
    weights = (train.get("model_init_kwargs") or {}).get("dtype") or ("auto" if gpu else "float32")
    half = bool(train.get("fp16"))
    bf16 = train.get("bf16")
    if bf16 is None:
        bf16 = not half if "fp16" in train else gpu
    return _computed(_saved_dtype(model) if weights == "auto" else weights, bf16, half)


def _computed(weights: str, bf16: bool, fp16: bool) -> str:
    if weights != "float32":
        return weights
    return "bfloat16" if bf16 else "float16" if fp16 else "float32"


def _saved_dtype(model: Path) -> str:
    """What `auto` is for transformers: what the configuration names, else what the weights are."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    for part in (config, config.get("text_config") or {}):
        if named := part.get("dtype") or part.get("torch_dtype"):
            return str(named)
    from safetensors import safe_open

    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "np") as weights:
            for name in weights.keys():  # noqa: SIM118
                return DTYPES.get(weights.get_slice(name).get_dtype(), "float32")
    return "float32"


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
    arguments: Any, model: Any, ends: Sequence[int], seed: int, longest: int
) -> Iterator[VLLMRollouts | None]:
    """How vLLM draws for a trainer with `arguments`, None where it does not.

    Args:
        ends: token ids that end a completion.
        longest: the longest sequence in tokens.

    Raises:
        UserError: a server is to draw, and none was started or named.
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
    yield replace(_served(plan, arguments), files=files)


def _served(plan: VLLMRollouts, arguments: Any) -> VLLMRollouts:
    """With the address of the server that was started for these processes, or named in the recipe."""
    server = OwnServer.told()
    if server is None:
        if arguments.vllm_server_base_url is None:
            raise UserError(
                "train.vllm_mode server: no server was started for this process; `openr1 run` and a job start one, "
                "or name yours in train.vllm_server_base_url"
            )
        return plan
    if server.dtype != plan.dtype:
        logger.warning("the vLLM server computes in %s, the trainer in %s", server.dtype, plan.dtype)
    arguments.vllm_server_base_url = server.url
    if server.port is not None:
        arguments.vllm_group_port = server.port
    return replace(plan, server=server, dtype=server.dtype)


def server_arguments(gpu: bool) -> dict[str, Any]:
    """What TRL needs of a server: log-probabilities as they were sampled from, and a door for the weights."""
    arguments: dict[str, Any] = {"logprobs_mode": "processed_logprobs", "max_logprobs": -1}
    return arguments | ({"weight_transfer_config": {"backend": "nccl"}} if gpu else {})


def seeded(draw: Callable[..., Any], seeds: Callable[[int], list[int]]) -> Callable[..., Any]:
    """vLLM's `generate` with a seed for each row, `seeds` of their number; raises OutsideError where it gave up."""

    def generate(prompts: list[Any], sampling_params: Any, **rest: Any) -> Any:
        params = []
        for seed in seeds(len(prompts)):
            params.append(copy.copy(sampling_params))
            params[-1].seed = seed
        outputs = draw(prompts, sampling_params=params, **rest)
        for ended in (output.outputs[0].finish_reason for output in outputs):
            if ended not in ENDED:
                raise OutsideError(f"vLLM ended a completion with {ended}; the same command goes on from here")
        return outputs

    return generate


def refuse_copies() -> None:
    """Raise UserError for a CPU build of vLLM that multiplies by copies of the weights, which no new weights reach."""
    import torch
    from vllm import _custom_ops, plugins  # type: ignore[import-not-found]

    plugins.load_general_plugins()
    if not torch.cuda.is_available() and _custom_ops._supports_onednn:
        raise UserError(
            "train.use_vllm: this vLLM multiplies with oneDNN, whose copies of the weights go stale while training; "
            "make setup-vllm installs the plugin that switches it off (and VLLM_PLUGINS must not leave it out)"
        )


def ask_server(session: Any, verb: str, url: str, **given: Any) -> Any:
    """What a vLLM server answers, as JSON; raises OutsideError with one line where it does not."""
    from requests import RequestException

    try:
        reply = session.request(verb, url, **given)
    except RequestException as e:
        why = type(e).__name__  # the owner of ours knows more, and is heard first
        raise OutsideError(f"the vLLM server does not answer ({why}); the same command goes on from here") from e
    if reply.status_code != 200:
        said = " ".join(reply.text.split())[:200]
        raise OutsideError(f"the vLLM server answers {verb} {url} with {reply.status_code}: {said}")
    return reply.json()


def weights_into(folder: Path, named: Iterable[tuple[str, Any]]) -> None:
    """The weights as a file that a server on the same machine can read."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in named}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
