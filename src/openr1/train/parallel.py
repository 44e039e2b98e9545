"""Training on several processes: what accelerate is given for it, what really ran, and what a checkpoint allows.

The process that owns a stage starts the ranks (openr1.launch.ranks); each of them runs the same stage, and meets the
others in a `World`. On a CPU accelerate has two silent fall-backs (FSDP2 runs as DDP, DeepSpeed as one process), so
what ran is asked of it and compared with what was asked for.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from openr1.errors import UserError
from openr1.train.settings import ParallelSettings

logger = logging.getLogger("openr1")

CHECKPOINT_FILE = "parallel.json"
SHARDED = ("zero2", "zero3", "fsdp2")  # no process has the whole state of the optimizer
PARTED = ("zero3", "fsdp2")  # no process has the whole model
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes that train one model together, as one of them sees them; a single one by default."""

    rank: int = 0
    size: int = 1
    device: Any = "cpu"

    @classmethod
    def of(cls, arguments: Any) -> World:
        """The world that TrainingArguments have set up."""
        return cls(arguments.process_index, arguments.world_size, arguments.device)

    @property
    def main(self) -> bool:
        """Whether this process writes the files that all share."""
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """What rank 0 makes of `make`, on every rank."""
        if self.size == 1:
            return make()
        from torch.distributed import broadcast_object_list

        found: list[Any] = [make() if self.main else None]
        broadcast_object_list(found, src=0)
        return found[0]

    def gather(self, mine: list[T]) -> list[T]:
        """The rows of all ranks in the order of ranks, on every rank."""
        if self.size == 1:
            return mine
        from torch.distributed import all_gather_object

        parts: list[Any] = [None] * self.size
        all_gather_object(parts, mine)
        return [row for part in parts for row in part]

    def total(self, number: int) -> int:
        """The sum over all ranks."""
        if self.size == 1:
            return number
        import torch

        found = torch.tensor(number, dtype=torch.int64, device=self.device)
        torch.distributed.all_reduce(found)
        return int(found)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.gather([None])

    def share_of(self, rows: int) -> slice:
        """Which of `rows` belong to this rank: contiguous parts that differ by at most one, in the order of ranks."""
        return slice(self.rank * rows // self.size, (self.rank + 1) * rows // self.size)


# ------------------------------------------------------------------------------------------------ what is asked for
def parallel_arguments(parallel: ParallelSettings, gpu: bool) -> dict[str, Any]:
    """The TrainingArguments that make `parallel` so, where the machine has what it needs (`available`)."""
    if parallel.kind in ("zero2", "zero3"):
        arguments: dict[str, Any] = {"deepspeed": deepspeed_config(parallel, gpu)}
        if not gpu:
            _join_on_cpu()
            arguments |= {"use_cpu": False, "accelerator_config": {"use_configured_state": True}}
        return arguments
    if parallel.kind == "fsdp2":
        return {"fsdp": True, "fsdp_config": fsdp_config(parallel)}
    return {}


def deepspeed_config(parallel: ParallelSettings, gpu: bool) -> dict[str, Any]:
    """DeepSpeed's configuration; `auto` is filled in by transformers from the training arguments."""
    zero: dict[str, Any] = {
        "stage": 2 if parallel.kind == "zero2" else 3,
        "overlap_comm": gpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
    }
    if parallel.kind == "zero3":
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    host = {"device": "cpu", "pin_memory": gpu}
    if parallel.offload != "none":
        zero["offload_optimizer"] = host
    if parallel.offload == "all":
        zero["offload_param"] = host
    config: dict[str, Any] = {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "zero_allow_untested_optimizer": True,
    }
    if parallel.offload != "none":  # DeepSpeed's own Adam is the one made for the host
        values = dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
        config["optimizer"] = {"type": "AdamW", "params": values}
    return config


def fsdp_config(parallel: ParallelSettings) -> dict[str, Any]:
    """PyTorch's fully sharded data parallel, version 2, a unit for each layer of the model."""
    return {
        "version": 2,
        "reshard_after_forward": True,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_offload": parallel.offload == "all",
        "state_dict_type": "FULL_STATE_DICT",
    }


def _join_on_cpu() -> None:
    """Have accelerate know of DeepSpeed on a CPU: by itself it takes `no GPU` for `one process`."""
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(backend="gloo")


def load_whole() -> None:
    """From here on transformers loads a model whole, and not in parts as it does for ZeRO-3."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


# ---------------------------------------------------------------------------------------------------- what really ran
def what_ran(trainer: Any) -> dict[str, Any]:
    """Kind, processes, device and backend of a constructed trainer, as accelerate has them."""
    from transformers.training_args import ParallelMode

    state = trainer.accelerator.state
    name = str(state.distributed_type.value)
    if name == "DEEPSPEED":
        kind = f"zero{state.deepspeed_plugin.zero_stage}"
    elif name == "FSDP":
        kind = f"fsdp{state.fsdp_plugin.fsdp_version}"
    elif trainer.args.parallel_mode == ParallelMode.NOT_DISTRIBUTED:
        kind = "DataParallel"
    else:
        kind = {"NO": "single", "MULTI_CPU": "ddp", "MULTI_GPU": "ddp"}.get(name, name)
    return {
        "kind": kind,
        "processes": state.num_processes,
        "device": trainer.args.device.type,
        "backend": state.backend if state.num_processes > 1 else None,
    }


def confirm(trainer: Any, parallel: ParallelSettings, processes: int) -> dict[str, Any]:
    """`what_ran`, which is said; raises UserError where that is not what was asked for."""
    ran = what_ran(trainer)
    if (ran["kind"], ran["processes"]) != (parallel.kind, processes):
        raise UserError(
            f"parallel: {parallel.kind} on {processes} process{'es' if processes > 1 else ''} was asked for, "
            f"{ran['kind']} on {ran['processes']} would run; set parallel.kind to what this machine can do"
        )
    if parallel.offload != "none":
        ran["offload"] = parallel.offload
    if parallel.kind != "single":
        backend = f", {ran['backend']}" if ran["backend"] else ""
        logger.info("training with %s on %d processes (%s%s)", ran["kind"], ran["processes"], ran["device"], backend)
    return ran


# -------------------------------------------------------------------------------------------------------- checkpoints
def save_parallel(folder: Path, parallel: ParallelSettings, processes: int, in_cycle: bool) -> None:
    """Note in a checkpoint who wrote it, and whether completions that were generated before are still to be used."""
    note = {"kind": parallel.kind, "processes": processes, "in_cycle": in_cycle}
    (folder / CHECKPOINT_FILE).write_text(json.dumps(note), encoding="utf-8")


def check_resume(checkpoint: Path, parallel: ParallelSettings, processes: int) -> None:
    """Whether these processes can go on from a checkpoint.

    Between single and ddp, whatever their number, weights, optimizer and the order of data go on exactly; what does
    not is said. Raises UserError where the rest of a generation, or a part of the optimizer's state, is another
    process's.
    """
    path = checkpoint / CHECKPOINT_FILE
    wrote: dict[str, Any] = {"kind": "single", "processes": 1, "in_cycle": False}
    if path.exists():
        wrote = json.loads(path.read_text(encoding="utf-8"))
    before, now = (wrote["kind"], wrote["processes"]), (parallel.kind, processes)
    if before == now or {before, now} == {("single", 1), ("ddp", 1)}:
        return
    said = f"{checkpoint.name} was written by {before[0]} on {before[1]} process{'es' if before[1] > 1 else ''}"
    back = f"go on with parallel.kind={before[0]} and parallel.processes={before[1]}"
    if before[0] in SHARDED or now[0] in SHARDED:
        raise UserError(
            f"{said}, whose optimizer state {now[0]} on {now[1]} cannot take up; {back}, or rerun the stage"
        )
    if wrote["in_cycle"]:
        raise UserError(f"{said} in the middle of a generation, of which each process has its part; {back}")
    logger.warning(
        "%s, %s on %d goes on from it: weights, optimizer, prompts and seeds of rollouts as they would be; sums are "
        "rounded in another order, dropout and what TRL itself draws come from the seed",
        said,
        *now,
    )
