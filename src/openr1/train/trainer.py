"""What SFT and GRPO have in common: arguments, resume, what surrounds the trainer, and the final model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from openr1.errors import UserError
from openr1.log import Progress
from openr1.metrics import MetricLog, read_metrics
from openr1.models.chat import check_template
from openr1.models.scratch import count_parameters, save_model
from openr1.models.source import load_model, load_tokenizer
from openr1.records import Prompt
from openr1.train import checkpoints, rollouts
from openr1.train.account import Account, TrainResult, training_flops
from openr1.train.adapters import adapter_arguments, loading_options, merged, with_adapters
from openr1.train.available import packing_warning, unavailable
from openr1.train.best import Best, best_model
from openr1.train.check import train_problems
from openr1.train.fields import Kind
from openr1.train.guards import Guards
from openr1.train.parallel import PARTED, World, check_resume, confirm, load_whole, parallel_arguments
from openr1.train.profile import Profiler, gpu_peak
from openr1.train.settings import GRPOSettings, LoraSettings, ParallelSettings, SFTSettings
from openr1.train.signals import Signals
from openr1.train.step_log import StepLog
from openr1.train.watchdog import Watchdog

logger = logging.getLogger("openr1")


def training_arguments(
    kind: Kind, train: Mapping[str, Any], work: Path, seed: int, parallel: ParallelSettings | None = None
) -> Any:
    """SFTConfig or GRPOConfig from a `train:` block, with what openr1 and the machine decide.

    Where the block is silent, a machine without a GPU trains in float32 without gradient checkpointing (TRL's defaults
    are made for GPUs; neither changes what is learned beyond rounding). A rank meets the other ranks here.
    """
    from trl import GRPOConfig, SFTConfig

    parallel, gpu = parallel or ParallelSettings(), torch.cuda.is_available()
    problems = train_problems(kind, train, int(os.environ.get("WORLD_SIZE", "1")))
    problems += unavailable(train, parallel, gpu)
    if problems:
        raise UserError(*problems)
    if warning := packing_warning(train):
        logger.warning("%s", warning)
    machine = {"bf16": gpu and torch.cuda.is_bf16_supported(), "gradient_checkpointing": gpu}
    machine["logging_nan_inf_filter"] = False  # a loss that is not finite is shown as what it is
    if "fp16" in train:
        machine.pop("bf16")
    fixed = {
        "output_dir": str(work), "seed": seed, "report_to": "none", "logging_steps": 1, "logging_strategy": "steps",
        "disable_tqdm": True, "use_cpu": not gpu, "dataloader_pin_memory": gpu, "remove_unused_columns": False,
    }  # fmt: skip
    fixed |= parallel_arguments(parallel, gpu)
    own = {k: v for k, v in train.items() if k not in ("save_total_limit", "model_init_kwargs")}
    config: Any = SFTConfig if kind == "sft" else GRPOConfig
    try:
        arguments = config(**(machine | own | fixed))
    except ValueError as e:
        raise UserError(f"train: {' '.join(str(e).split())}") from e
    if arguments.world_size == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process trains on one GPU; DataParallel is asked for by nobody
    return arguments


def open_model(
    model_dir: Path, train: Mapping[str, Any], checkpoint: Path | None, lora: LoraSettings | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer to train; refuses a template and an EOS that do not agree (endless generation).

    With a checkpoint, that of training that has ended, the model is loaded whole whatever trained it.
    """
    tokenizer = load_tokenizer(model_dir)
    problems = check_template(tokenizer, model_dir)
    if problems:
        raise UserError(*(f"{model_dir}: {p}" for p in problems))
    if checkpoint is not None:
        load_whole()
    if lora is not None and checkpoint is not None:
        return with_adapters(model_dir, checkpoint), tokenizer
    options = dict(train.get("model_init_kwargs") or {}) | loading_options(lora)
    dtype = options.pop("dtype", None) or ("float32" if not torch.cuda.is_available() else "auto")
    return load_model(checkpoint or model_dir, dtype, options), tokenizer


@dataclass
class Resume:
    """Where a stage continues: the verified checkpoint (None: from the start) and the account up to it."""

    checkpoint: Path | None
    account: Account

    @property
    def step(self) -> int:
        return checkpoints.step_of(self.checkpoint) if self.checkpoint else 0

    @property
    def finished(self) -> bool:
        """Whether training had ended at the checkpoint, so that only the final model is missing."""
        return self.account.stopped is not None


def find_resume(work: Path, metrics: MetricLog, parallel: ParallelSettings, world: World) -> Resume:
    """The newest whole checkpoint; metrics and what is kept of later steps are forgotten, they will be made again.

    Raises UserError for a checkpoint that these processes cannot go on from.
    """

    def clean() -> Path | None:
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = checkpoints.newest(work)
        step = checkpoints.step_of(checkpoint) if checkpoint else 0
        if checkpoint and Account.load(checkpoint).stopped is None:
            check_resume(checkpoint, parallel, world.size)
        metrics.resume_from(step)
        for folder in rollouts.FOLDERS:
            rollouts.discard_after(work, step, folder)
        if checkpoint:
            logger.info("resuming from %s", checkpoint.name)
        return checkpoint

    checkpoint = world.share(clean)
    return Resume(checkpoint, Account.load(checkpoint) if checkpoint else Account())


@dataclass
class Training:
    """The training of one stage, opened: what SFT and GRPO have in common before, around and after the trainer.

    `arguments` are TRL's. Raises, while it is opened, UserError for a bad `train` block, a template that does not fit
    the model, or a checkpoint that these processes cannot go on from.
    """

    kind: Kind
    model_dir: Path
    settings: SFTSettings | GRPOSettings
    out: Path
    work: Path
    metrics: MetricLog
    seed: int
    logs: Path | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows that are not trained on, by reason."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.arguments = training_arguments(self.kind, settings.train, self.work, self.seed, settings.parallel)
        self.world = World.of(self.arguments)
        self.resume = find_resume(self.work, self.metrics, settings.parallel, self.world)
        ended = self.resume.checkpoint if self.resume.finished else None
        self.model, self.tokenizer = open_model(self.model_dir, settings.train, ended, settings.lora)

    def step_log(self, bar: Progress) -> StepLog:
        """The callback that logs, with guards (on the first rank, who know the steps that are done) and watchdog."""
        settings, world = self.settings, self.world
        known = read_metrics(self.metrics.path) if world.main else []
        guards = Guards(settings.guards, known, self.metrics.alert) if world.main else None
        watchdog = Watchdog(settings.watchdog_minutes, self.logs or self.work / "logs", world.rank, world.size)
        return StepLog(self.resume.account, self.metrics, bar, guards, watchdog)

    def best(self, dev: Sequence[Prompt] | None, log: StepLog) -> list[TrainerCallback]:
        """The callback that keeps the best checkpoint, where one is asked for."""
        if self.settings.best is None or not dev:
            return []
        return [Best(self.settings.best, dev, self.model, self.tokenizer, log, self.work, self.world)]

    def of_every_trainer(self) -> dict[str, Any]:
        """Arguments of either trainer of `trl_internals`."""
        settings = self.settings
        own = {"account": self.resume.account, "keep": settings.train.get("save_total_limit")}
        common = {"model": self.model, "args": self.arguments, "parallel": settings.parallel}
        return common | own | adapter_arguments(settings.lora, self.seed)

    def run(self, make_trainer: Callable[[], Any], log: StepLog) -> TrainResult:
        """Train from the checkpoint to the end, unless it had ended there, and write the final model in one move.

        Raises UserError where a guard stops it, OutsideError where it stalls, Terminated where SIGTERM ended it.
        """
        account, world = self.resume.account, self.world
        total, counted = count_parameters(self.model)
        profiler = Profiler(counted, world.size, gpu_peak())
        steps, ran = self.resume.step, {"kind": self.settings.parallel.kind, "processes": world.size}
        weights: dict[str, Any] | None = None  # None: the model has them all
        if not self.resume.finished:
            trainer = make_trainer()
            ran = confirm(trainer, self.settings.parallel, world.size) | getattr(trainer, "generation", {})
            log.profiler = profiler = replace(profiler, sampler_elsewhere=getattr(trainer, "sampler_elsewhere", False))
            self._train(trainer, log)
            steps = trainer.state.global_step
            if self.settings.parallel.kind in PARTED:
                weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
            if world.main:
                self.model, weights = self._merged(trainer, weights)
        if world.main:
            if self.settings.best is not None:
                self.model, weights = best_model(self.work, account, self.settings.lora, self.model_dir), None
            save_model(self.model, self.tokenizer, self.out, weights)
        world.barrier()
        tokens = {"trained": 0, "generated": 0, "prompt": 0} | account.tokens
        return TrainResult(
            steps=steps,
            tokens=tokens,
            phases={k: round(v, 3) for k, v in account.phases.items()},
            flops=training_flops(counted, **tokens),
            parameters=total,
            stopped=account.stopped or "the data ended",
            dropped=self.dropped,
            parallel=ran,
            guards=log.guards.results() if log.guards else {},
            profile=profiler.summary(account.phases, tokens),
            best=None if self.settings.best is None else account.best(),
        )

    def _train(self, trainer: Any, log: StepLog) -> None:
        trainer.remove_callback(PrinterCallback)  # it prints every step to stdout, which belongs to results
        signals = Signals(self.resume.account, self.world)
        trainer.add_callback(signals)  # after those that end training, and after the one that logs
        checkpoint = self.resume.checkpoint
        with signals.listening(), log.watchdog.watching() if log.watchdog else nullcontext():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _merged(self, trainer: Any, weights: dict[str, Any] | None) -> tuple[PreTrainedModel, dict[str, Any] | None]:
        """Model and weights to put out: with adapters the whole model of them, unless the best is put out anyway."""
        lora = self.settings.lora
        if lora is None or self.settings.best is not None:
            return self.model, weights
        trained = trainer.accelerator.unwrap_model(trainer.model)
        return merged(trained, weights, lora, self.model_dir, self.work / ".adapters"), None
