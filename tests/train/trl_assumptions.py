"""What openr1.train.trl_internals assumes of the private parts of TRL and of transformers' Trainer.

`broken_internals` names what changed when another TRL is installed than the one that it was written against.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import GRPOTrainer, SFTTrainer
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import RepeatSampler

PINNED = "1.16"

# (class, attribute, its parameters): what is overridden or called
USED: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (SFTTrainer, "_save_checkpoint", ("self", "model", "trial")),
    (GRPOTrainer, "_save_checkpoint", ("self", "model", "trial")),
    (GRPOTrainer, "_get_output_dir", ("self", "trial")),
    (GRPOTrainer, "_send_telemetry", ("self",)),
    (GRPOTrainer, "_get_train_sampler", ("self", "dataset")),
    (SFTTrainer, "_get_train_sampler", ("self", "train_dataset")),
    (GRPOTrainer, "create_model_card", ("self", "model_name", "dataset_name", "tags")),
    (GRPOTrainer, "_load_optimizer_and_scheduler", ("self", "checkpoint")),
    (GRPOTrainer, "_generate", ("self", "prompts")),
    (GRPOTrainer, "_generate_and_score_completions", ("self", "inputs")),
    (GRPOTrainer, "_prepare_inputs", ("self", "generation_batch")),
    (SFTTrainer, "compute_loss", ("self", "model", "inputs", "return_outputs", "num_items_in_batch")),
    (VLLMClient, "check_server", ("self", "total_timeout", "retry_interval")),
    (VLLMClient, "init_communicator", ("self", "device")),
    (VLLMClient, "update_named_params", ("self", "metadata", "named_params")),
)
SCORER = "_get_per_token_logps_and_entropies"
SCORER_PARAMETERS = ("self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy")
# attributes that the code reads or sets, by a piece of the source that uses them as we assume
ASSUMED: tuple[tuple[type, str, str], ...] = (
    (GRPOTrainer, "_prepare_inputs", "self._step % generate_every == 0 or self._buffered_inputs is None"),
    (GRPOTrainer, "_prepare_inputs", "self._buffered_inputs[self._step % self.args.steps_per_generation]"),
    (GRPOTrainer, "_generate_and_score_completions", "rewards[unscorable_mask] = torch.nan"),
    (GRPOTrainer, "_generate_and_score_completions", '"advantages": advantages'),
    (GRPOTrainer, "training_step", "self._step += 1"),
    (GRPOTrainer, "_compute_loss", "per_token_loss.size(0) * self.max_completion_length"),
    (GRPOTrainer, "__init__", "SyncRefModelCallback(ref_model=self.ref_model"),
    (RepeatSampler, "__iter__", "indexes = list(range(self.num_samples))"),
    (RepeatSampler, "__iter__", "torch.randperm(self.num_samples, generator=self.generator)"),
    (LengthGroupedSampler, "__iter__", "generator=self.generator"),
    (GRPOTrainer, "_generate", "self.rollout_func(prompts, self)"),
    (GRPOTrainer, "_generate_single_turn", "self.vllm_generation.sync_weights()"),
    (GRPOTrainer, "_generate_and_score_completions", '"sampling/sampling_logp_difference/mean"'),
    (GRPOTrainer, "_generate_and_score_completions", '"sampling/importance_sampling_ratio/min"'),
    (VLLMGeneration, "_init_vllm", "self.llm = LLM("),
    (VLLMGeneration, "_init_vllm", "self.vllm_client = VLLMClient("),
    (VLLMGeneration, "generate", "self.llm.generate(vllm_prompts, sampling_params=sampling_params, use_tqdm=False)"),
    (VLLMGeneration, "generate", "generation_kwargs.update(self.generation_kwargs)"),
    (VLLMGeneration, "generate", '"generation_kwargs": self.generation_kwargs'),
    (VLLMClient, "__init__", "self.check_server(connection_timeout)"),
    (VLLMClient, "generate", 'choices = self._post(f"{self.base_url}/v1/completions", json=payload)["choices"]'),
    (GRPOTrainer, SCORER, "return logps, entropies, aux_loss"),
    (SFTTrainer, "compute_loss", 'self._metrics[mode]["entropy"].append'),
    (SFTTrainer, "compute_loss", 'self._metrics[mode]["mean_token_accuracy"].append'),
    (SFTTrainer, "compute_loss", "num_tokens = outputs.label_mask.sum() if num_items_in_batch is None"),
)


def broken_internals() -> list[str]:
    """What of TRL's private parts is not as openr1.train.trl_internals assumes; [] with the pinned version."""
    problems = []
    installed = version("trl")
    if installed.split(".")[:2] != PINNED.split("."):
        problems.append(f"trl {installed} is installed, train/trl_internals.py was written against {PINNED}")
    for owner, name, parameters in USED:
        method = inspect.unwrap(getattr(owner, name, None) or (lambda: None))
        found = tuple(inspect.signature(method).parameters)
        if not hasattr(owner, name) or found != parameters:
            problems.append(f"{owner.__name__}.{name} takes {found}, expected {parameters}")
    scorer = tuple(inspect.signature(getattr(GRPOTrainer, SCORER, lambda: None)).parameters)
    if scorer[: len(SCORER_PARAMETERS)] != SCORER_PARAMETERS:
        problems.append(f"GRPOTrainer.{SCORER} takes {scorer}, expected {SCORER_PARAMETERS} first")
    for owner, name, piece in ASSUMED:
        if piece not in inspect.getsource(getattr(owner, name)):
            problems.append(f"{owner.__name__}.{name} no longer contains `{piece}`")
    return problems
