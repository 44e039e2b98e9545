"""Rollouts that our own engine draws for GRPO, in the processes that train; vLLM's are in `vllm_rollouts.py`."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from openr1.engines.settings import SamplingSettings
from openr1.engines.transformers import TransformersEngine
from openr1.models.chat import render
from openr1.records import request_seed


def engine_rollouts(arguments: Any, tokenizer: PreTrainedTokenizerBase, seed: int, kind: str) -> Any:
    """The trainer's rollout function that draws with our engine, or None where TRL generates itself.

    The engine lets ended rows leave the batch (a third less time than `generate` on a CPU) and draws from one
    generator a row, seeded by (seed, micro-step, row of the whole batch): each rank draws its rows, and several draw
    what one would. TRL generates with vLLM, where no process can hold the whole model, and for options that the
    engine does not have.
    """
    special = (
        kind == "fsdp2", kind == "zero3" and not arguments.ds3_gather_for_generation, arguments.min_p is not None,
        arguments.repetition_penalty != 1.0, arguments.use_vllm, arguments.use_transformers_continuous_batching,
        arguments.generation_kwargs, arguments.cache_implementation, arguments.chat_template_kwargs,
        arguments.max_completion_length is None,
    )  # fmt: skip
    if any(special):
        return None
    sampling = SamplingSettings(
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k or None,
        max_new_tokens=arguments.max_completion_length or 1,
    )

    def roll(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        step = trainer.micro_step  # several generations may belong to one optimizer step
        ids = tokenizer([render(tokenizer, p) for p in prompts], add_special_tokens=False)["input_ids"]
        first = arguments.process_index * len(ids)
        seeds = [request_seed(seed, f"step {step}", first + row) for row in range(len(ids))]
        with trainer.whole_model() as model:
            training = model.training
            model.eval()
            try:
                limit = sampling.model_copy(update={"max_new_tokens": trainer.max_completion_length})
                new = TransformersEngine(model, tokenizer, len(ids)).decode(ids, seeds, limit)
            finally:
                model.train(training)
        return {"prompt_ids": ids, "completion_ids": new, "logprobs": None}

    return roll
