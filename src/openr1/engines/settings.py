"""Settings of engines and of sampling; torch-free."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from openr1.settings import Settings


class SamplingSettings(Settings):
    """How a completion is drawn. `temperature` 0 is greedy; `top_k` None and `top_p` 1 keep the whole vocabulary."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)]

    def greedy(self) -> SamplingSettings:
        """The same token budget without chance."""
        return SamplingSettings(temperature=0.0, max_new_tokens=self.max_new_tokens)


class TransformersSettings(Settings):
    """Generation with transformers in this process. The batch is the unit of commit and decides, through padding, the
    last bits of the logits; so `batch_size` belongs to what is produced."""

    name: Literal["transformers"]
    batch_size: Annotated[int, Field(ge=1)]
    device: Literal["auto", "cpu", "cuda"] = "auto"

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"device"})


class VLLMSettings(Settings):
    """Generation with vLLM: `server` starts and supervises one `vllm serve` for each of `data_parallel`, `offline`
    runs the engine in this process.

    `executable`: the `vllm` program of a server; null looks at OPENR1_VLLM, beside this Python, on the PATH and in
    `.venv-vllm`. `concurrency`: requests at each server, or in the engine, at a time. The replicas are spread
    over the nodes of the stage.
    `max_model_len` (tokens; null: the model's own) is the only size that decides what can be answered; the others move
    speed and memory only. `extra` holds vLLM's own argument names (underscores) with their values.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset(
        {
            "mode",
            "tensor_parallel",
            "pipeline_parallel",
            "data_parallel",
            "gpu_memory_utilization",
            "max_num_seqs",
            "concurrency",
            "executable",
            "start_timeout_s",
            "request_timeout_s",
        }
    )

    name: Literal["vllm"]
    mode: Literal["server", "offline"] = "server"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    pipeline_parallel: Annotated[int, Field(ge=1)] = 1
    data_parallel: Annotated[int, Field(ge=1)] = 1
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None
    concurrency: Annotated[int, Field(ge=1)] = 256
    executable: str | None = None
    start_timeout_s: Annotated[float, Field(gt=0)] = 1800
    request_timeout_s: Annotated[float, Field(gt=0)] = 3600
    extra: dict[str, Any] = {}


class OpenAISettings(Settings):
    """Generation through one or several OpenAI-compatible endpoints that serve the same model.

    `base_url`: each ends in `/v1`. `model`: the name that the endpoints serve; null: the only one that they list.
    `api`: `chat` sends messages and the server applies its template; `completions` renders the template here (it needs
    the recipe's model for the tokenizer). `api_key_env`: the environment variable that holds the key. `concurrency`:
    requests in flight over all endpoints. `retries`: tries after the first for 429, 5xx, timeouts and broken replies.
    `max_wait_s`: how long no endpoint may work before the stage fails.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset(
        {"base_url", "api_key_env", "concurrency", "request_timeout_s", "retries", "max_wait_s"}
    )

    name: Literal["openai"]
    base_url: Annotated[list[str], Field(min_length=1)]
    model: str | None = None
    api: Literal["chat", "completions"] = "chat"
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1)] = 64
    request_timeout_s: Annotated[float, Field(gt=0)] = 3600
    retries: Annotated[int, Field(ge=0)] = 8
    max_wait_s: Annotated[float, Field(gt=0)] = 600
    extra: dict[str, Any] = {}


EngineSettings = Annotated[TransformersSettings | VLLMSettings | OpenAISettings, Field(discriminator="name")]
