"""GRPO on TRL's GRPOTrainer: one composed reward, every rollout kept, exact resume (arXiv 2402.03300, 2501.12948)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import datasets
from transformers import PreTrainedTokenizerBase

from openr1.errors import UserError
from openr1.log import Progress
from openr1.metrics import MetricLog
from openr1.models.chat import eos_ids, render, with_prefill
from openr1.records import Prompt, prompts_by_id
from openr1.rewards import ComposedReward
from openr1.train.account import TrainResult
from openr1.train.check import generation_batch
from openr1.train.curriculum import prompt_order
from openr1.train.engine_rollouts import engine_rollouts
from openr1.train.grader import Grader, token_lengths
from openr1.train.probes import Probes
from openr1.train.settings import GRPOSettings
from openr1.train.trainer import Training
from openr1.train.trl_internals import WholeGRPOTrainer
from openr1.train.vllm_rollouts import vllm_rollouts


def fitting_prompts(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, prefill: str | None, room: int
) -> tuple[list[Prompt], dict[str, int]]:
    """(prompts whose rendered text is at most `room` tokens, reason -> how many were dropped); each prompt once."""
    once = list(prompts_by_id(prompts).values())
    lengths = token_lengths(tokenizer, [render(tokenizer, p.messages, prefill) for p in once])
    kept = [p for p, n in zip(once, lengths, strict=True) if n <= room]
    dropped = {"duplicate": len(prompts) - len(once), "too_long": len(once) - len(kept)}
    return kept, {k: n for k, n in dropped.items() if n}


def run_grpo(
    *,
    model_dir: Path,
    prompts: Sequence[Prompt],
    settings: GRPOSettings,
    reward: ComposedReward,
    out: Path,
    work: Path,
    metrics: MetricLog,
    seed: int,
    progress: str = "grpo",
    logs: Path | None = None,
    probe_prompts: Sequence[Prompt] | None = None,
    dev: Sequence[Prompt] | None = None,
    pass_rates: Mapping[str, float | None] | None = None,
) -> TrainResult:
    """Train `model_dir` with GRPO on `prompts`, graded by `reward`.

    Leaves a complete model folder in `out`; checkpoints and rollouts/step-NNNNNN.parquet in `work`; called again after
    a kill it continues from the newest whole checkpoint and ends, on one thread, with the same bytes. `progress` is
    the title of the bar, `logs` the folder of what a stall leaves. With `settings.probes`, answers to the first of
    `probe_prompts` through training go to probes/step-NNNNNN.parquet. `pass_rates` by prompt id are what
    `settings.curriculum` goes by. Raises UserError for a bad `train` block, too few prompts, prompts that leave no
    room for a completion, a reward that fails, or a guard that stops; OutsideError for a stall, Terminated after
    SIGTERM. Among several ranks each calls this; rank 0 writes.
    """
    _refuse_missing(settings, probe_prompts, dev)
    training = Training("grpo", model_dir, settings, out, work, metrics, seed, logs)
    arguments, world, resume, tokenizer = training.arguments, training.world, training.resume, training.tokenizer
    context = min(training.model.config.max_position_embeddings, arguments.vllm_max_model_length or 1 << 62)
    usable = _usable(prompts, training, settings, context)
    ends = eos_ids(tokenizer, training.model.generation_config)
    rendering = copy.deepcopy(tokenizer)  # what the trainer renders with ends in the prefill; what is saved does not
    rendering.chat_template = with_prefill(str(tokenizer.chat_template), settings.prefill)
    grader = Grader(reward, usable, tokenizer, ends, arguments, settings, work, resume.account, seed, world)
    grader.step, grader.pass_rates = resume.step, pass_rates or {}
    drawn = vllm_rollouts(arguments, training.model, ends, seed, context)
    with Progress(progress, max(arguments.max_steps, 1)) as bar, nullcontext() if resume.finished else drawn as vllm:
        log = grader.log = training.step_log(bar)
        asked = []
        if settings.probes is not None and probe_prompts:
            common = training.model, tokenizer, log, work, settings.prefill, world
            asked = [Probes(settings.probes, probe_prompts, *common)]

        def make() -> WholeGRPOTrainer:
            rows = [{"prompt": [dict(m) for m in p.messages], "prompt_id": p.prompt_id} for p in usable]
            return WholeGRPOTrainer(
                **training.of_every_trainer(),
                reward_funcs=[grader],
                train_dataset=datasets.Dataset.from_list(rows),
                processing_class=rendering,
                callbacks=[*training.best(dev, log), *asked, log],
                on_scored=grader.scored,
                length_at=settings.max_new_tokens if settings.length_schedule else None,
                order=prompt_order(usable, settings, pass_rates, seed),
                rollout_func=engine_rollouts(arguments, rendering, seed, settings.parallel.kind),
                vllm=vllm,
            )

        return training.run(make, log)


def _refuse_missing(settings: GRPOSettings, probes: Sequence[Prompt] | None, dev: Sequence[Prompt] | None) -> None:
    """Raise UserError where the settings ask for prompts that are not there."""
    if settings.probes is not None and not probes:
        raise UserError("probes need prompts to ask; name them as the stage's `probes` input")
    if settings.best is not None and not dev:
        raise UserError("best needs development prompts; name them as the stage's `dev` input")


def _usable(prompts: Sequence[Prompt], training: Training, settings: GRPOSettings, context: int) -> list[Prompt]:
    """The prompts that leave room for a completion; UserError where they do not fill one generation."""
    room = context - (settings.longest() or 0)
    usable, training.dropped = fitting_prompts(prompts, training.tokenizer, settings.prefill, room)
    arguments = training.arguments
    needed = generation_batch(settings.train, arguments.world_size)[0] // arguments.num_generations
    if len(usable) < needed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in training.dropped.items())
        raise UserError(
            f"{len(usable)} prompts{f' ({reasons})' if reasons else ''}, but one generation takes {needed}; give more "
            f"prompts, a smaller batch, or a max_completion_length that leaves room in the context of {context}"
        )
    return usable
