"""The one file that touches private parts of TRL and of transformers' Trainer.

It was written against the TRL minor in PINNED; `broken_internals` names what changed when another is installed.
What it changes:

- checkpoints are written aside, vouched for and renamed (the trainer writes them in place), and pruned by us;
- GRPO keeps its micro-step counter and its generation buffer in the checkpoint: TRL forgets both, so that a resume in
  the middle of a generation cycle would diverge at once;
- the advantages that the trainer computed are handed out with the rollouts, and generation is timed;
- nothing is reported to anyone: the telemetry call and the model card are left out.
"""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer, SFTTrainer

from openr1.train import checkpoints
from openr1.train.account import Account

PINNED = "1.16"
BUFFER = "generation_buffer.pt"

# (class, attribute, its parameters): what is overridden or called below
USED: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (SFTTrainer, "_save_checkpoint", ("self", "model", "trial")),
    (GRPOTrainer, "_save_checkpoint", ("self", "model", "trial")),
    (GRPOTrainer, "_get_output_dir", ("self", "trial")),
    (GRPOTrainer, "_send_telemetry", ("self",)),
    (GRPOTrainer, "create_model_card", ("self", "model_name", "dataset_name", "tags")),
    (GRPOTrainer, "_load_optimizer_and_scheduler", ("self", "checkpoint")),
    (GRPOTrainer, "_generate", ("self", "prompts")),
    (GRPOTrainer, "_generate_and_score_completions", ("self", "inputs")),
    (GRPOTrainer, "_prepare_inputs", ("self", "generation_batch")),
)
# attributes that the code below reads or sets, by a piece of the source that uses them as we assume
ASSUMED: tuple[tuple[type, str, str], ...] = (
    (GRPOTrainer, "_prepare_inputs", "self._step % generate_every == 0 or self._buffered_inputs is None"),
    (GRPOTrainer, "_prepare_inputs", "self._buffered_inputs[self._step % self.args.steps_per_generation]"),
    (GRPOTrainer, "_generate_and_score_completions", "rewards[unscorable_mask] = torch.nan"),
    (GRPOTrainer, "_generate_and_score_completions", '"advantages": advantages'),
    (GRPOTrainer, "training_step", "self._step += 1"),
)


def broken_internals() -> list[str]:
    """What of TRL's private parts is not as this file assumes; [] with the pinned version."""
    from importlib.metadata import version

    problems = []
    installed = version("trl")
    if installed.split(".")[:2] != PINNED.split("."):
        problems.append(f"trl {installed} is installed, train/trl_internals.py was written against {PINNED}")
    for owner, name, parameters in USED:
        method = inspect.unwrap(getattr(owner, name, None) or (lambda: None))
        found = tuple(inspect.signature(method).parameters)
        if not hasattr(owner, name) or found != parameters:
            problems.append(f"{owner.__name__}.{name} takes {found}, expected {parameters}")
    for owner, name, piece in ASSUMED:
        if piece not in inspect.getsource(getattr(owner, name)):
            problems.append(f"{owner.__name__}.{name} no longer contains `{piece}`")
    return problems


class _WholeCheckpoints:
    """Mixed into a TRL trainer: atomic checkpoints with the stage's account, and silence."""

    account: Account
    _staging: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self.account.phase("save"):
            work = Path(self.args.output_dir)  # type: ignore[attr-defined]
            self._staging = work / checkpoints.STAGING
            shutil.rmtree(self._staging, ignore_errors=True)
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
            finally:
                staging, self._staging = self._staging, None
            staged = staging / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
            self._save_extra(staged)
            self.account.save(staged)
            checkpoints.commit(staged, work)
            checkpoints.prune(work, self.keep)  # type: ignore[attr-defined]

    def _save_extra(self, folder: Path) -> None:
        """What a trainer must keep beyond what transformers saves."""

    def _send_telemetry(self) -> None:
        """Nothing leaves the machine unasked."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Cards are written when a model is published, from manifests."""


class WholeSFTTrainer(_WholeCheckpoints, SFTTrainer):
    """TRL's SFTTrainer with checkpoints that survive kill -9. `keep` is how many of them stay."""

    def __init__(self, *args: Any, account: Account, keep: int | None, **kwargs: Any) -> None:
        self.account, self.keep = account, keep
        super().__init__(*args, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        mask = inputs.get("attention_mask")  # absent when sequences are packed without padding
        self.account.count(trained=int(mask.sum()) if mask is not None else inputs["input_ids"].numel())
        return super().training_step(model, inputs, *args, **kwargs)


class WholeGRPOTrainer(_WholeCheckpoints, GRPOTrainer):
    """TRL's GRPOTrainer with checkpoints that survive kill -9 at any step, and rollouts handed out.

    `on_scored` receives the advantages of a generation, one a completion, in the order in which the reward function
    saw them.
    """

    def __init__(
        self,
        *args: Any,
        account: Account,
        keep: int | None,
        on_scored: Callable[[list[float]], None],
        **kwargs: Any,
    ) -> None:
        self.account, self.keep, self.on_scored = account, keep, on_scored
        super().__init__(*args, **kwargs)

    def _generate(self, prompts: list[Any]) -> Any:
        started = time.perf_counter()
        try:
            return super()._generate(prompts)
        finally:
            self.account.spend("generate", time.perf_counter() - started)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        self.on_scored(output["advantages"].tolist())
        return output

    def _save_extra(self, folder: Path) -> None:
        torch.save({"step": self._step, "buffer": self._buffered_inputs if self._in_cycle else None}, folder / BUFFER)

    @property
    def _in_cycle(self) -> bool:
        """Whether the next micro-step still consumes completions that were generated before."""
        arguments: Any = self.args
        return self._step % (arguments.steps_per_generation * self.num_iterations) != 0

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            kept = torch.load(Path(checkpoint) / BUFFER, map_location=self.args.device, weights_only=True)
            self._step, self._buffered_inputs = kept["step"], kept["buffer"]
