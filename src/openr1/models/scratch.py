"""Models from scratch: a tiny Qwen or Llama with a character tokenizer, written as a complete model folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.errors import UserError
from openr1.manifest import replace_dir
from openr1.models.settings import ModelSettings
from openr1.models.size import active_parameters
from openr1.models.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def model_config(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The transformers config of a scratch model; EOS and pad are the tokenizer's."""
    from transformers import LlamaConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

    vocab = settings.vocab or len(tokenizer)
    if vocab < len(tokenizer):
        raise UserError(f"model.vocab is {vocab}, but the tokenizer has {len(tokenizer)} tokens; set it to null")
    kinds: dict[str, Any] = {
        "qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig, "qwen3_moe": Qwen3MoeConfig,
    }  # fmt: skip
    arguments: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.ffn,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "max_position_embeddings": settings.context,
        "tie_word_embeddings": settings.tie_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rope_theta},
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    assert settings.architecture and settings.hidden and settings.heads  # the settings of a scratch model are whole
    if settings.architecture != "qwen2":  # Qwen2 derives it from hidden and heads
        arguments["head_dim"] = settings.head_dim or settings.hidden // settings.heads
    if settings.architecture == "qwen3_moe":
        arguments |= {
            "num_experts": settings.experts,
            "num_experts_per_tok": settings.experts_per_token,
            "moe_intermediate_size": settings.expert_ffn,
            "norm_topk_prob": True,  # as the published Qwen3 models
        }
    return kinds[settings.architecture](**arguments)


def init_model(settings: ModelSettings, seed: int, folder: Path) -> Path:
    """Draw the weights with `seed` and write config, safetensors, tokenizer, template and generation_config."""
    import torch
    from transformers import AutoModelForCausalLM

    if settings.source != "scratch" or settings.tokenizer is None:
        raise UserError(f"model source {settings.source!r} is not made here; only `scratch` is")
    tokenizer = build_tokenizer(settings.tokenizer, settings.chat_template)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(model_config(settings, tokenizer), dtype=torch.float32)
    model.to(getattr(torch, str(settings.dtype)))
    return save_model(model, tokenizer, folder)


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, weights: dict[str, Any] | None = None
) -> Path:
    """Write a complete model folder in one move; what generates later stops where the tokenizer's EOS says.

    `weights` take the place of the model's own, where those are spread over processes.
    """
    from transformers.utils import logging as transformers_logging

    from openr1.models.chat import eos_ids

    transformers_logging.disable_progress_bar()  # ours is the one progress bar
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    generation = model.generation_config
    if generation is not None:
        ends = eos_ids(tokenizer, generation)
        generation.eos_token_id = ends[0] if len(ends) == 1 else ends
        generation.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(aside, state_dict=weights)
    tokenizer.save_pretrained(aside)
    replace_dir(aside, folder)
    return folder


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """All parameters, and N of the FLOP estimates: without the input embedding, unless it is tied to the LM head, and
    with those experts only that a token is sent to.

    A token's embedding is a look-up, not a multiplication (Kaplan et al., arXiv 2001.08361, section 2.1), while the LM
    head is one; a tied table does both and counts once.
    """
    sizes = [(name, _numbers(p)) for name, p in model.named_parameters()]
    total, active = sum(n for _, n in sizes), active_parameters(sizes, model.config.to_dict())
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    tied = outputs is not None and getattr(outputs, "weight", None) is getattr(inputs, "weight", None)
    return total, active if tied else active - sum(map(_numbers, inputs.parameters()))


def _numbers(parameter: Any) -> int:
    """How many numbers a parameter holds, those that DeepSpeed keeps in other processes included."""
    return int(getattr(parameter, "ds_numel", None) or parameter.numel())
