"""What SFT and GRPO have in common: arguments, the callback that logs every step, resume, and the final model."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from openr1.errors import UserError
from openr1.log import Progress
from openr1.metrics import MetricLog, read_metrics
from openr1.models.chat import check_template
from openr1.models.scratch import count_parameters, save_model
from openr1.models.source import load_model, load_tokenizer
from openr1.train import checkpoints, rollouts
from openr1.train.account import Account, TrainResult, training_flops
from openr1.train.adapters import loading_options, with_adapters
from openr1.train.available import packing_warning, unavailable
from openr1.train.check import train_problems
from openr1.train.fields import Kind
from openr1.train.guards import Guards
from openr1.train.parallel import PARTED, World, check_resume, confirm, load_whole, parallel_arguments
from openr1.train.profile import PHASES, Profiler, gpu_peak
from openr1.train.settings import GRPOSettings, LoraSettings, ParallelSettings, SFTSettings
from openr1.train.signals import Signals
from openr1.train.watchdog import Watchdog

logger = logging.getLogger("openr1")

# what the trainer logs -> our vocabulary (openr1.metrics.VOCABULARY)
NAMES = {
    "loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "epoch": "epoch", "entropy": "entropy",
    "kl": "kl", "clip_ratio/region_mean": "clip_ratio",
    "sampling/sampling_logp_difference/mean": "logprob_gap", "sampling/sampling_logp_difference/max": "logprob_tail",
    "sampling/importance_sampling_ratio/min": "ratio_min", "sampling/importance_sampling_ratio/max": "ratio_max",
}  # fmt: skip


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


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the generators of torch, numpy and Python back after the block: measuring does not change training."""
    python, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)


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


class StepLog(TrainerCallback):
    """Logs every step to the metric log, moves the progress bar, and writes down why training ended.

    `guards` judge what is logged; `watchdog` hears of everything that ends; `profiler` knows rates.
    """

    def __init__(
        self,
        account: Account,
        metrics: MetricLog,
        bar: Progress,
        guards: Guards | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.account, self.metrics, self.bar, self.guards, self.watchdog = account, metrics, bar, guards, watchdog
        self.profiler: Profiler | None = None
        self.extra: dict[str, float] = {}  # metrics of the current step that the trainer does not know
        self._mark = time.perf_counter()
        self._spent: dict[str, float] = {}
        self._counted: dict[str, int] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.total = state.max_steps
        self._start_step()

    def _start_step(self) -> None:
        self._mark = time.perf_counter()
        self._spent, self._counted = dict(self.account.phases), dict(self.account.tokens)
        self._beat()

    def _beat(self) -> None:
        if self.watchdog is not None:
            self.watchdog.beat()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._beat()

    @contextmanager
    def aside(self, phase: str) -> Iterator[None]:
        """Count the block to `phase` and leave it out of the step's seconds."""
        started = time.perf_counter()
        with self.account.phase(phase):
            yield
        self._mark += time.perf_counter() - started
        self._beat()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seconds of the step: what is neither generation nor grading is training; then the account may be saved."""
        step = time.perf_counter() - self._mark
        phases = self.account.phases
        known = {p: phases[p] - self._spent.get(p, 0.0) for p in PHASES if p in phases}
        train = step - sum(known.values())
        self.account.spend("train", train)
        self.extra |= {f"seconds/{p}": s for p, s in known.items()} | {"seconds/train": train, "seconds/step": step}
        if self.profiler is not None:
            counted = {k: n - self._counted.get(k, 0) for k, n in self.account.tokens.items()}
            rates = self.profiler.rates(known | {"train": train}, counted)
            self.extra |= {f"speed/{name}": rate for name, rate in rates.items()}
        self.extra["tokens"] = self.account.tokens.get("trained", 0) + self.account.tokens.get("generated", 0)
        if state.global_step >= state.max_steps and self.account.stopped is None:
            self.account.stopped = f"all {state.max_steps} steps done"

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:  # the summary at the end
            return
        values = {NAMES[k]: v for k, v in logs.items() if k in NAMES and v is not None} | self.extra
        self.metrics.log(state.global_step, values)
        shown = ("reward", "accuracy", "loss")
        note = next((f"{n} {values[n]:.3f}" for n in shown if n in values), "")
        self.bar.update(state.global_step, note)
        self.extra = {}
        self._start_step()
        if self.guards is not None:
            self.guards.look(state.global_step, values)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._start_step()


def open_guards(settings: SFTSettings | GRPOSettings, metrics: MetricLog, world: World) -> Guards | None:
    """The guards of a stage, which know the steps that are done; None on every rank but the first."""
    return Guards(settings.guards, read_metrics(metrics.path), metrics.alert) if world.main else None


def train_and_finish(
    make_trainer: Callable[[], Any],
    resume: Resume,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    dropped: dict[str, int],
    parallel: ParallelSettings,
    world: World,
    log: StepLog,
    merge: Callable[[Any, dict[str, Any] | None], PreTrainedModel] | None = None,
    choose: Callable[[], PreTrainedModel] | None = None,
) -> TrainResult:
    """Train from the checkpoint to the end, unless it had ended there, and write the final model in one move.

    `merge` makes the whole model of one that was trained with adapters, and of its weights where no process has all.
    `choose` gives the model to put out in the place of the last one.
    Raises UserError where a guard stops it, OutsideError where it stalls, Terminated where SIGTERM ended it.
    """
    steps, account = resume.step, resume.account
    ran: dict[str, Any] = {"kind": parallel.kind, "processes": world.size}
    weights: dict[str, Any] | None = None  # None: the model has them all
    total, counted = count_parameters(model)
    profiler = Profiler(counted, world.size, gpu_peak())
    if not resume.finished:
        trainer = make_trainer()
        ran = confirm(trainer, parallel, world.size) | getattr(trainer, "generation", {})
        trainer.remove_callback(PrinterCallback)  # it prints every step to stdout, which belongs to results
        log.profiler = profiler = replace(profiler, sampler_elsewhere=getattr(trainer, "sampler_elsewhere", False))
        signals = Signals(account, world)
        trainer.add_callback(signals)  # after those that end training, and after the one that logs
        with signals.listening(), log.watchdog.watching() if log.watchdog else nullcontext():
            trainer.train(resume_from_checkpoint=str(resume.checkpoint) if resume.checkpoint else None)
        steps = trainer.state.global_step
        if parallel.kind in PARTED:
            weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if merge is not None and choose is None and world.main:
            model, weights = merge(trainer.accelerator.unwrap_model(trainer.model), weights), None
    if world.main:
        if choose is not None:
            model, weights = choose(), None
        save_model(model, tokenizer, out, weights)
    world.barrier()
    tokens = {"trained": 0, "generated": 0, "prompt": 0} | account.tokens
    flops = training_flops(counted, **tokens)
    return TrainResult(
        steps=steps,
        tokens=tokens,
        phases={k: round(v, 3) for k, v in account.phases.items()},
        flops=flops,
        parameters=total,
        stopped=account.stopped or "the data ended",
        dropped=dropped,
        parallel=ran,
        guards=log.guards.results() if log.guards else {},
        profile=profiler.summary(account.phases, tokens),
        best=None if choose is None else account.best(),
    )
