"""What an engine knows of a model from its folder, without its weights."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from openr1.engines.base import Key, Request, request_problems
from openr1.engines.preflight import length_problems, template_problems
from openr1.engines.settings import SamplingSettings
from openr1.errors import UserError
from openr1.models.chat import eos_ids, render
from openr1.models.size import active_parameters
from openr1.models.source import load_tokenizer
from openr1.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 1000  # prompts tokenized at a time


class ModelFolder:
    """A model as vLLM is asked about it: its tokenizer, what ends a reply, its context, its number of parameters.

    Raises:
        UserError: no chat template, one without a generation prompt, no EOS, `max_model_len` beyond the context.
    """

    def __init__(self, folder: Path, max_model_len: int | None) -> None:
        self.folder = folder
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder)
        config = _read(folder / "config.json")
        self.eos = eos_ids(self.tokenizer, SimpleNamespace(**({"eos_token_id": None} | _generation(folder, config))))
        own = (config.get("text_config") or config).get("max_position_embeddings")
        self.context: int | None = max_model_len or own
        self.parameters = count_parameters(folder)
        probe: list[Message] = [{"role": "user", "content": "1+1"}]
        problems = template_problems(self.tokenizer, probe, bool(self.eos))
        if max_model_len is not None and own is not None and max_model_len > own:
            problems.append(
                f"engine.max_model_len {max_model_len} is beyond the model's context of {own} tokens; lower it"
            )
        if problems:
            raise UserError(*problems)
        self.probe = self.render(probe, None)

    def render(self, messages: Sequence[Message], prefill: str | None) -> list[int]:
        """The token ids of a prompt, up to where the reply goes on after `prefill`."""
        return self._ids([render(self.tokenizer, messages, prefill)])[0]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply, without the token that ends it."""
        body = list(ids[:-1] if ids and ids[-1] in self.eos else ids)
        return str(self.tokenizer.decode(body, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def check(
        self, requests: Sequence[Request], sampling: SamplingSettings, done: Container[Key], prefill: str | None
    ) -> None:
        """Raise UserError for what cannot be answered, every problem at once; memory is a number a prompt."""
        problems = request_problems(requests)
        wanted = {r.prompt_id: r for r in requests if r.key not in done} if self.context is not None else {}
        lengths: dict[str, int] = {}
        left = iter(wanted.values())
        while chunk := list(islice(left, CHUNK)):
            ids = self._ids([render(self.tokenizer, r.messages, prefill) for r in chunk])
            lengths |= {r.prompt_id: len(i) for r, i in zip(chunk, ids, strict=True)}
        problems += length_problems(lengths, sampling.max_new_tokens, self.context)
        if problems:
            raise UserError(*problems)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _generation(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """generation_config.json, or the EOS of config.json where there is none, as transformers has it."""
    return _read(folder / "generation_config.json") or {"eos_token_id": config.get("eos_token_id")}


def count_parameters(folder: Path) -> int | None:
    """Parameters of the safetensors files of a model folder that a token goes through; None where there are none, or
    they are quantized."""
    from math import prod

    from safetensors import safe_open

    sizes: list[tuple[str, int]] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                part = tensors.get_slice(name)
                if part.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                    return None
                sizes.append((name, prod(part.get_shape())))
    return active_parameters(sizes, _read(folder / "config.json")) or None
