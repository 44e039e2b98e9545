"""What is wrong in a `train:` block, told before anything is loaded: names, types, values and batch arithmetic.

The block holds TRL's own argument names; they are compared with the checked-in table of the pinned version, so this
needs neither torch nor TRL. Every problem is found at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from openr1.errors import did_you_mean
from openr1.train.fields import Kind, fields

REFERENCE = "docs/config_reference.md"

_HERE = "openr1 sets it; remove it"
_LOGS = "every step is logged; choose where with `track`"
_EVAL = "models are evaluated by a stage of kind evaluate; remove it"
_BEST = "use the stage's `best`: {every: STEPS, max_new_tokens: N}, with an input `dev`"
_HUB = "nothing is uploaded while training; `openr1 publish RUN --repo ID --type model --dry-run` writes the folder"
_DATA = "rows are rendered with the model's chat template; remove it"
_RESUME = "checkpoints are whole and resumed by themselves; remove it"

_SPREAD = "use the stage's `parallel`: {kind: ddp, zero2, zero3 or fsdp2}"

# arguments that openr1 decides, and what to use instead
RESERVED: dict[str, str] = {
    "output_dir": _HERE, "run_name": _HERE, "local_rank": _HERE, "disable_tqdm": _HERE, "do_train": _HERE,
    "do_eval": _EVAL, "do_predict": _EVAL, "eval_strategy": _EVAL, "eval_steps": _EVAL, "eval_delay": _EVAL,
    "eval_on_start": _EVAL, "eval_accumulation_steps": _EVAL, "per_device_eval_batch_size": _EVAL,
    "num_generations_eval": _EVAL, "load_best_model_at_end": _BEST, "metric_for_best_model": _BEST,
    "greater_is_better": _BEST, "eval_packing": _EVAL, "batch_eval_metrics": _EVAL, "prediction_loss_only": _EVAL,
    "seed": "use the stage's or the recipe's `seed`", "data_seed": "use the stage's or the recipe's `seed`",
    "report_to": "use `track`", "project": "use `track`", "logging_dir": _LOGS, "logging_steps": _LOGS,
    "logging_strategy": _LOGS, "logging_first_step": _LOGS, "trackio_space_id": "use `track`",
    "trackio_bucket_id": "use `track`", "trackio_static_space_id": "use `track`",
    "log_completions": "every rollout of every step is kept in rollouts/", "num_completions_to_print": _LOGS,
    "log_unique_prompts": _LOGS, "log_completions_hub_repo": _HUB,
    "resume_from_checkpoint": _RESUME, "ignore_data_skip": _RESUME, "save_only_model": _RESUME,
    "restore_callback_states_from_checkpoint": _RESUME, "auto_find_batch_size": "it breaks exact resume; remove it",
    "enable_jit_checkpoint": _RESUME, "remove_unused_columns": _HERE, "use_cpu": "the machine decides; remove it",
    "deepspeed": _SPREAD, "fsdp": _SPREAD, "fsdp_config": _SPREAD, "accelerator_config": _SPREAD,
    "push_to_hub": _HUB, "hub_model_id": _HUB, "hub_strategy": _HUB, "hub_token": _HUB, "hub_private_repo": _HUB,
    "hub_always_push": _HUB, "hub_revision": _HUB,
    "reward_weights": "use `stages.<stage>.reward.parts.<part>.weight`",
    "include_num_input_tokens_seen": "tokens are counted in the manifest; remove it",
    "assistant_only_loss": "the loss is on the completion; `completion_only_loss: false` puts it on the prompt too",
    "dataset_text_field": _DATA, "dataset_kwargs": _DATA, "dataset_num_proc": _DATA, "label_names": _DATA,
    "chat_template_path": "use `model.chat_template`", "eos_token": "use `model.chat_template`",
    "pad_token": "the tokenizer's pad token is used; remove it",
    "truncation_mode": "rows longer than max_length are dropped and counted, never cut; remove it",
    "use_transformers_paged": "use `use_transformers_continuous_batching`",
    "vllm_server_host": "use `vllm_server_base_url`", "vllm_server_port": "use `vllm_server_base_url`",
    "vllm_importance_sampling_cap": "use `vllm_importance_sampling_clip_max`",
}  # fmt: skip

_TASK = "data belong to the prompts stage: stages.prompts.task"
_INIT = "it goes into train.model_init_kwargs: {dtype: …, attn_implementation: …}"
_SOURCE = "a model is named by `model.source` (and `model.revision`)"

# names that recipes of Open-R1 and scripts of TRL hold beside TRL's arguments, and what stands for them here
FROM_ELSEWHERE: dict[str, str] = {
    "system_prompt": "it belongs to the task: stages.prompts.task.system_prompt",
    "overwrite_output_dir": "say rerun=[STAGE] on the command line; the old output is kept aside",
    "max_prompt_length": "prompts that leave no room in the model's context are dropped and counted; remove it",
    "benchmarks": "models are measured by stages of kind evaluate; add one for each",
    "reward_funcs": "rewards are named in stages.<stage>.reward.parts",
    "dataset_name": _TASK, "dataset_config": _TASK, "dataset_mixture": _TASK, "dataset_train_split": _TASK,
    "dataset_test_split": _TASK, "dataset_prompt_column": "columns are named in stages.prompts.task.columns",
    "model_name_or_path": _SOURCE, "model_revision": _SOURCE, "chat_template": "use `model.chat_template`",
    "wandb_project": "use track.project", "wandb_entity": "use track.entity",
    "push_to_hub_revision": _HUB, "torch_dtype": _INIT, "attn_implementation": _INIT,
}  # fmt: skip

# arguments that are plain strings in TRL, and the values it takes
CHOICES: dict[Kind, dict[str, tuple[str, ...]]] = {
    "sft": {"loss_type": ("nll", "dft"), "packing_strategy": ("bfd", "bfd_split", "wrapped")},
    "grpo": {
        "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
        "scale_rewards": ("group", "batch", "none"),
        "importance_sampling_level": ("token", "sequence"),
        "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
        "vllm_mode": ("colocate", "server"),
    },
}
POSITIVE = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_iterations", "steps_per_generation",
    "generation_batch_size", "max_completion_length", "max_length", "save_steps", "temperature",
)  # fmt: skip


def train_problems(kind: Kind, train: Mapping[str, Any], world_size: int = 1, where: str = "train") -> list[str]:
    """Every problem of a `train:` block, one line each; [] when it is fine. `world_size` is the number of processes.

    >>> train_problems("sft", {"learning_rte": 9.0})
    ['train.learning_rte: no argument of trl.SFTConfig; did you mean learning_rate?']
    """
    known = fields(kind)
    problems = []
    for name, value in train.items():
        if name in RESERVED:
            problems.append(f"{where}.{name}: not to be set here; {RESERVED[name]}")
        elif name in FROM_ELSEWHERE and name not in known:
            problems.append(f"{where}.{name}: no argument of TRL's configuration; {FROM_ELSEWHERE[name]}")
        elif name not in known:
            config = "SFTConfig" if kind == "sft" else "GRPOConfig"
            usable = [n for n in known if n not in RESERVED]
            problems.append(
                f"{where}.{name}: no argument of trl.{config}; {did_you_mean(name, usable, see=REFERENCE)}"
            )
        else:
            problem = _value_problem(kind, name, value, known[name])
            if problem:
                problems.append(f"{where}.{name}: {problem}")
    if not problems:  # arithmetic on values of the right type only
        problems += [f"{where}: {p}" for p in _length_problems(train)]
        if kind == "sft":
            problems += [f"{where}: {p}" for p in _packing_problems(train)]
        if kind == "grpo":
            problems += [f"{where}: {p}" for p in batch_problems(train, world_size)]
            if train.get("sync_ref_model") and not train.get("beta", fields("grpo")["beta"]["default"]):
                problems.append(f"{where}: sync_ref_model refreshes a reference model, and beta 0 has none; set beta")
    return problems


# ------------------------------------------------------------------------------------------------------------ values
def _value_problem(kind: Kind, name: str, value: Any, field: Mapping[str, Any]) -> str | None:
    kinds = _alternatives(field["type"])
    choices = CHOICES[kind].get(name) or field.get("choices")
    if not any(_fits(value, k) for k in kinds):
        return _type_problem(value, [k for k in kinds if k not in ("DebugOption",)], choices)
    if choices and isinstance(value, str) and value not in choices:
        return f"{value!r} is not one of its values; {did_you_mean(value, choices)}"
    if name in POSITIVE and isinstance(value, (int, float)) and not value > 0:
        return f"{value} is not positive"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if name == "learning_rate" and isinstance(value, (int, float)) and value < 0:
        return f"{value} is negative"
    return None


def _type_problem(value: Any, kinds: list[str], choices: Any) -> str:
    expected = " or ".join(dict.fromkeys(k for k in kinds if not k.endswith(("Strategy", "Type", "Names", "Option"))))
    if isinstance(value, str) and {"float", "int"} & set(kinds):
        try:
            number = float(value)
        except ValueError:
            return f"{value!r} is text, expected {expected}"
        written = f"{number!r}" if "e" not in repr(number) or "." in repr(number) else repr(number).replace("e", ".0e")
        return f"{value!r} is text, expected {expected}; write it without quotes and with a point, as {written}"
    hint = f" ({', '.join(choices)})" if choices and len(choices) <= 8 else ""
    return f"{value!r} is {_kind_of(value)}, expected {expected}{hint}"


def _kind_of(value: Any) -> str:
    names = {"NoneType": "empty", "bool": "true/false", "int": "a whole number", "float": "a number", "str": "text"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")


def _alternatives(text: str) -> list[str]:
    """The members of a union, brackets respected: `dict[str, Any] | str | None` has three."""
    return [part.strip() for part in re.split(r"\|(?![^\[]*\])", text)]


def _fits(value: Any, kind: str) -> bool:
    base = kind.split("[")[0]
    if base == "bool":
        return isinstance(value, bool)
    if base == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if base == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if base == "list":
        return isinstance(value, list)
    if base == "dict":
        return isinstance(value, Mapping)
    if base == "None":
        return value is None
    if base == "Literal":
        return value is False
    return base == "str" and isinstance(value, str)  # enums stand beside `str` in every union


def _length_problems(train: Mapping[str, Any]) -> list[str]:
    if train.get("max_steps", -1) <= 0 and train.get("num_train_epochs", 1) <= 0:
        return ["neither max_steps nor num_train_epochs is positive, so there is nothing to train"]
    return []


def _packing_problems(train: Mapping[str, Any]) -> list[str]:
    """Packing that mixes rows up. `bfd` keeps them apart by their positions, whatever computes the attention."""
    if train.get("packing") and train.get("packing_strategy") == "wrapped":
        return ["packing_strategy wrapped cuts rows and lets them read each other; use bfd"]
    if train.get("padding_free") and not train.get("packing") and train.get("max_length", 0) is not None:
        return ["padding_free without packing keeps no max_length; set max_length null, or packing true"]
    return []


# ------------------------------------------------------------------------------------------------- batch arithmetic
def generation_batch(train: Mapping[str, Any], world_size: int = 1) -> tuple[int, int]:
    """(completions a generation, optimizer micro-steps that consume it), as TRL derives them."""
    one = _given(train, "per_device_train_batch_size") * world_size
    if size := _given(train, "generation_batch_size"):
        return size, size // one
    steps = _given(train, "steps_per_generation") or _given(train, "gradient_accumulation_steps")
    return one * steps, steps


def batch_problems(train: Mapping[str, Any], world_size: int = 1) -> list[str]:
    """Whether whole groups of `num_generations` fit into a generation batch, with the nearest values that do."""
    per_device = train.get("per_device_train_batch_size", fields("grpo")["per_device_train_batch_size"]["default"])
    group = train.get("num_generations", fields("grpo")["num_generations"]["default"])
    if group is None or group < 2:
        return [f"num_generations is {group}; a group needs at least 2 completions to compare"]
    if train.get("generation_batch_size") and train.get("steps_per_generation"):
        return ["generation_batch_size and steps_per_generation are both set; keep one of them"]
    size, steps = generation_batch(train, world_size)
    if size % (per_device * world_size):
        near = _nearest(size, lambda n: n % (per_device * world_size) == 0)
        unit = _product(per_device, world_size)
        return [f"generation_batch_size {size} is not a multiple of {unit}; nearest: {near}"]
    if size % group:
        batches = _nearest(per_device, lambda n: n * world_size * steps % group == 0)
        groups = _nearest(group, lambda n: n >= 2 and size % n == 0, most=size)
        return [
            f"{_product(per_device, world_size, steps)} completions a generation do not divide into groups of "
            f"num_generations {group}; nearest valid per_device_train_batch_size: {batches}; "
            f"nearest valid num_generations: {groups}"
        ]
    return _several_generations_a_step(train, steps, per_device * world_size)


def _several_generations_a_step(train: Mapping[str, Any], steps: int, one: int) -> list[str]:
    """Rollouts are kept, and drawn, once an optimizer step: a step must not see two generations."""
    accumulated = _given(train, "gradient_accumulation_steps")
    iterations = _given(train, "num_iterations")
    if steps * iterations >= accumulated:
        return []
    least = -(-accumulated // iterations)
    if train.get("generation_batch_size"):
        name, found, valid = "generation_batch_size", f"{steps * one} (= {steps} x {one})", least * one
    else:
        name, found, valid = "steps_per_generation", str(steps), least
    again = f" with num_iterations {iterations}" if iterations > 1 else ""
    return [
        f"{name} {found}{again} is used up before gradient_accumulation_steps {accumulated}, so one optimizer step "
        f"would take several generations; valid: {name} {valid} or more, or gradient_accumulation_steps "
        f"{steps * iterations} or less"
    ]


def _given(train: Mapping[str, Any], name: str) -> Any:
    """The value of an argument of GRPOConfig, or its default."""
    return train.get(name) if train.get(name) is not None else fields("grpo")[name]["default"]


def _product(per_device: int, world_size: int, steps: int = 1) -> str:
    """`per_device_train_batch_size 6 x 2 processes x 4 accumulation steps = 48`, without the ones."""
    terms = [f"per_device_train_batch_size {per_device}"]
    terms += [f"{world_size} processes"] if world_size > 1 else []
    terms += [f"{steps} accumulation steps"] if steps > 1 else []
    total = per_device * world_size * steps
    return " x ".join(terms) + (f" = {total}" if len(terms) > 1 else "")


def _nearest(value: int, valid: Any, most: int = 1 << 20) -> str:
    """The nearest valid values below and above, as text."""
    below = next((n for n in range(min(value, most) - 1, 0, -1) if valid(n)), None)
    above = next((n for n in range(value + 1, min(value * 2 + 4096, most) + 1) if valid(n)), None)
    return " or ".join(str(n) for n in (below, above) if n is not None) or "none"
