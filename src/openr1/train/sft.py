"""Supervised fine-tuning on TRL's SFTTrainer: loss on the completion, exact resume, a stop by measured accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import TrainerCallback

from openr1.errors import UserError
from openr1.log import Progress
from openr1.metrics import MetricLog
from openr1.records import Prompt
from openr1.train.account import TrainResult
from openr1.train.rows import tokenize
from openr1.train.settings import SFTSettings
from openr1.train.stop import StopAt
from openr1.train.trainer import Training
from openr1.train.trl_internals import WholeSFTTrainer


def run_sft(
    *,
    model_dir: Path,
    rows: Sequence[Mapping[str, Any]],
    settings: SFTSettings,
    out: Path,
    work: Path,
    metrics: MetricLog,
    seed: int,
    dev: Sequence[Prompt] | None = None,
    progress: str = "sft",
    logs: Path | None = None,
) -> TrainResult:
    """Fine-tune `model_dir` on `rows` ({"prompt_id", "prompt": messages, "completion": [assistant message]}).

    Leaves a complete model folder in `out` and checkpoints in `work`; called again after a kill it continues from the
    newest whole checkpoint and ends, on one thread, with the same bytes. `progress` is the title of the bar, `logs`
    the folder of what a stall leaves. Raises UserError for a bad `train` block, no usable row, a template that does
    not fit the model, or a guard that stops; OutsideError for a stall, Terminated after SIGTERM. Among several ranks
    each calls this; rank 0 writes.
    """
    for name in ("stop_at", "best"):
        if getattr(settings, name) is not None and not dev:
            raise UserError(f"{name} needs development prompts; name them as the stage's `dev` input")
    training = Training("sft", model_dir, settings, out, work, metrics, seed, logs)
    arguments, model, tokenizer = training.arguments, training.model, training.tokenizer
    longest = min(x for x in (arguments.max_length, model.config.max_position_embeddings) if x is not None)
    data, dropped = tokenize(rows, tokenizer, longest, whole=arguments.completion_only_loss is False)
    training.dropped = dropped
    if not data:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "no rows came in"
        raise UserError(f"no row is left to train on ({reasons}); raise train.max_length or mend the data")
    if not arguments.packing:
        arguments.dataset_kwargs = {"skip_prepare_dataset": True}
    with Progress(progress, arguments.max_steps if arguments.max_steps > 0 else 1) as bar:
        log = training.step_log(bar)
        stop: list[TrainerCallback] = []
        if settings.stop_at is not None and dev:
            stop = [StopAt(settings.stop_at, dev, model, tokenizer, log, training.world)]

        def make() -> WholeSFTTrainer:
            return WholeSFTTrainer(
                **training.of_every_trainer(),
                train_dataset=datasets.Dataset.from_list([row | {"length": len(row["input_ids"])} for row in data]),
                processing_class=tokenizer,
                callbacks=[*stop, *training.best(dev, log), log],
            )

        return training.run(make, log)
