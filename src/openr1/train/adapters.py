"""Training with low-rank adapters (LoRA, arXiv 2106.09685; QLoRA, arXiv 2305.14314), and the whole model they leave.

The trainer is handed a PEFT configuration and wraps the model by itself. A checkpoint holds the adapters only; what a
stage puts out is the model with the adapters merged, like any other model folder.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.errors import UserError
from openr1.train.parallel import load_whole
from openr1.train.settings import LINEARS, LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "adapter_model.safetensors"


def quantize_problem(quantize: str, gpu: bool) -> str | None:
    """Why the frozen model cannot be quantised on a machine with or without a GPU, or None."""
    if quantize == "none":
        return None
    if not gpu:
        return f"lora.quantize: {quantize} needs a GPU, and there is none here; choose none"
    if importlib.util.find_spec("bitsandbytes") is None:
        return f"lora.quantize: {quantize} needs bitsandbytes; `pip install bitsandbytes`, or choose none"
    return None


def adapter_arguments(lora: LoraSettings | None, seed: int) -> dict[str, Any]:
    """What the trainer is handed for adapters: {} without them.

    They are drawn when the trainer is made, so the generators are seeded here; on resume the checkpoint has them.
    """
    if lora is None:
        return {}
    from peft import LoraConfig
    from transformers import set_seed

    set_seed(seed)
    targets = list(LINEARS) if lora.target_modules == ["all-linear"] else lora.target_modules
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a scale; peft takes any number
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    return {"peft_config": config}


def loading_options(lora: LoraSettings | None) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantise the frozen model; raises UserError where that cannot be."""
    import torch

    if lora is None or lora.quantize == "none":
        return {}
    if why := quantize_problem(lora.quantize, torch.cuda.is_available()):
        raise UserError(why)
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}


def merged(model: Any, weights: dict[str, Any] | None, lora: LoraSettings, base: Path, aside: Path) -> PreTrainedModel:
    """The whole model of a trained PeftModel. The base is loaded again as it was where it is quantised, since merging
    into 4 bits would round the adapters away, and where no process has all of it (`weights`: what all have)."""
    if lora.quantize == "none" and weights is None:
        return model.merge_and_unload()
    model.save_pretrained(aside, state_dict=weights)
    load_whole()
    return with_adapters(base, aside)


def with_adapters(base: Path, adapters: Path) -> PreTrainedModel:
    """The model of a folder with the adapters of a checkpoint merged into it."""
    from peft import PeftModel

    from openr1.models.source import load_model

    if not (adapters / ADAPTER).exists():
        raise UserError(f"{adapters}: holds no {ADAPTER}, so it is no checkpoint of adapters; run the stage again")
    return PeftModel.from_pretrained(load_model(base, "auto"), adapters).merge_and_unload()
