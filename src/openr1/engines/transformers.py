"""Generation with transformers in this process: batched, left-padded, every EOS obeyed, a generator per row.

The batch is the unit of commit and its members are a function of the whole request list, not of what is missing; so a
killed and resumed run gives the bytes of an uninterrupted one. Rows that have ended leave the running batch.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from openr1.engines.attention import grouped_queries
from openr1.engines.base import Key, Request
from openr1.engines.cache import growing_cache
from openr1.engines.preflight import prompt_tokens
from openr1.engines.sampling import draw_uniforms, pick
from openr1.engines.settings import SamplingSettings, TransformersSettings
from openr1.errors import UserError
from openr1.models.chat import eos_ids
from openr1.models.size import active_parameters
from openr1.models.source import load_model, load_tokenizer
from openr1.records import Completion
from openr1.store import now

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")
LEAVE = 1 / 8  # share of the running batch that has to have ended before its rows leave: that copies the cache once


class TransformersEngine:
    """An engine around a live model and its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        sizes = [(name, p.numel()) for name, p in model.named_parameters()]
        self.parameters = active_parameters(sizes, model.config.to_dict())
        self._eos = eos_ids(tokenizer, model.generation_config)
        pad = tokenizer.pad_token_id
        self._pad: int = pad if pad is not None else (self._eos or [0])[0]

    @classmethod
    def load(cls, settings: TransformersSettings, folder: Path) -> TransformersEngine:
        """Load a model folder: float32 on a CPU, the folder's own dtype on a GPU."""
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise UserError("engine.device is cuda, but no GPU is visible; set it to auto or cpu")
        model = load_model(folder, "float32" if device == "cpu" else _own_dtype(folder))
        return cls(model.to(device), load_tokenizer(folder), settings.batch_size)  # type: ignore[arg-type]

    def identity(self) -> dict[str, Any]:
        return {"name": "transformers", "batch_size": self.batch_size, "dtype": str(self.model.dtype).split(".")[-1]}

    def close(self) -> None:
        del self.model

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key] = (),
        prefill: str | None = None,
    ) -> Iterator[list[Completion]]:
        """Batches of `batch_size` requests in order; a batch that is all done is skipped, of another only what is
        missing is handed out.

        Raises:
            UserError: before the first batch, every problem of prompts, template and lengths at once.
        """
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        prompts = prompt_tokens(self.tokenizer, requests, sampling.max_new_tokens, context, prefill, self._eos)
        return self._batches(requests, prompts, sampling, done, prefill)

    # -- batch by batch
    def _batches(
        self,
        requests: Sequence[Request],
        prompts: dict[str, list[int]],
        sampling: SamplingSettings,
        done: Container[Key],
        prefill: str | None,
    ) -> Iterator[list[Completion]]:
        given_up = getattr(done, "given_up", ())
        was_training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(requests), self.batch_size):
                members = requests[start : start + self.batch_size]
                if all(r.key in done for r in members):
                    continue
                # what is there already is answered again, for the sake of equal padding; what was given up is not
                batch = [r for r in members if r.key not in given_up]
                began = time.perf_counter()
                tokens = self.decode([prompts[r.prompt_id] for r in batch], [r.seed for r in batch], sampling)
                share = (time.perf_counter() - began) / len(batch)
                rows = self._completions(batch, prompts, tokens, prefill, share)
                yield [c for c in rows if c.key not in done]
        finally:
            self.model.train(was_training)

    @torch.inference_mode()
    def decode(self, prompts: list[list[int]], seeds: list[int], sampling: SamplingSettings) -> list[list[int]]:
        """The new tokens of each row, EOS included, as one batch; the model should be in eval mode."""
        with grouped_queries(self.model):
            return self._decode(prompts, seeds, sampling)

    def _decode(self, prompts: list[list[int]], seeds: list[int], sampling: SamplingSettings) -> list[list[int]]:
        device = self.model.device
        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        position = mask.cumsum(-1) - 1
        position = position.masked_fill(mask == 0, 0)
        uniforms = draw_uniforms(seeds, sampling.max_new_tokens).to(device)
        eos = torch.tensor(self._eos, device=device)
        out: list[list[int]] = [[] for _ in prompts]
        alive = list(range(len(prompts)))
        running = torch.ones(len(prompts), dtype=torch.bool, device=device)  # rows of the batch that have not ended
        cache: Any = growing_cache(self.model.config, width + sampling.max_new_tokens)
        for step in range(sampling.max_new_tokens):
            reply = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            picked = pick(reply.logits[:, -1].float(), uniforms[:, step], sampling)
            for row, token, runs in zip(alive, picked.tolist(), running.tolist(), strict=True):
                if runs:
                    out[row].append(token)
            running = running & ~torch.isin(picked, eos)
            left = int(running.sum())
            if left == 0:
                break
            position = position[:, -1:] + 1
            ids = picked.unsqueeze(-1)
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
            if left <= len(alive) * (1 - LEAVE):  # go on with the rest
                keep = running.nonzero().squeeze(-1)
                cache.batch_select_indices(keep)
                ids, mask, position, uniforms = ids[keep], mask[keep], position[keep], uniforms[keep]
                alive = [alive[i] for i in keep.tolist()]
                running = running[keep]
        return out

    def _completions(
        self,
        batch: Sequence[Request],
        prompts: dict[str, list[int]],
        tokens: list[list[int]],
        prefill: str | None,
        seconds: float,
    ) -> list[Completion]:
        eos = set(self._eos)
        ended = [bool(t) and t[-1] in eos for t in tokens]
        bodies = [t[:-1] if e else t for t, e in zip(tokens, ended, strict=True)]
        texts = self.tokenizer.batch_decode(bodies, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        finished = now()
        return [
            Completion(
                prompt_id=r.prompt_id,
                sample_index=r.sample_index,
                text=(prefill or "") + text,
                finish_reason="stop" if end else "length",
                prompt_tokens=len(prompts[r.prompt_id]),
                completion_tokens=len(new),
                seed=r.seed,
                seconds=seconds,
                finished_at=finished,
            )
            for r, text, end, new in zip(batch, texts, ended, tokens, strict=True)
        ]


def _own_dtype(folder: Path) -> str:
    """The dtype that a model folder's config names, else float32."""
    import json

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    named = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return named if named in DTYPES else "float32"
