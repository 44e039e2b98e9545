"""GRPO on TRL's GRPOTrainer: one composed reward, every rollout kept, exact resume (arXiv 2402.03300, 2501.12948)."""

from __future__ import annotations

import copy
import logging
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from openr1.engines.settings import SamplingSettings
from openr1.engines.transformers import TransformersEngine
from openr1.errors import UserError
from openr1.log import Progress
from openr1.metrics import MetricLog
from openr1.models.chat import eos_ids, render, with_prefill
from openr1.records import Prompt, prompts_by_id, request_seed
from openr1.rewards import ComposedReward, RewardBatch, RewardResult, diagnose
from openr1.rewards.reflection import reflection_share
from openr1.train import probes, rollouts
from openr1.train.account import Account, TrainResult
from openr1.train.adapters import adapter_arguments, merged
from openr1.train.best import Best, best_model
from openr1.train.check import generation_batch
from openr1.train.curriculum import prompt_order
from openr1.train.parallel import World
from openr1.train.rollouts import Rollout
from openr1.train.settings import GRPOSettings
from openr1.train.trainer import (
    StepLog,
    find_resume,
    open_guards,
    open_model,
    train_and_finish,
    training_arguments,
)
from openr1.train.trl_internals import WholeGRPOTrainer
from openr1.train.vllm_rollouts import vllm_rollouts
from openr1.train.watchdog import Watchdog

logger = logging.getLogger("openr1")


class Grader:
    """The one reward function that the trainer is handed, and the keeper of the rollouts.

    A row whose total is None reaches the trainer as None: its advantage is 0 and its group's baseline is that of the
    other rows (law 1).
    """

    __name__ = "reward"  # what the trainer calls it

    def __init__(
        self,
        reward: ComposedReward,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase,
        ends: Sequence[int],
        arguments: Any,
        settings: GRPOSettings,
        work: Path,
        account: Account,
        seed: int,
        world: World,
    ) -> None:
        self.reward, self.tokenizer, self.arguments, self.settings = reward, tokenizer, arguments, settings
        self.world = world
        self.prompts = prompts_by_id(prompts)
        self.texts = {p.prompt_id: render(tokenizer, p.messages, settings.prefill) for p in prompts}
        self.lengths = dict(zip(self.texts, _lengths(tokenizer, list(self.texts.values())), strict=True))
        self.ends, self.work, self.account, self.seed = set(ends), work, account, seed
        self.log: StepLog | None = None
        self.pending: list[Rollout] = []
        self.step = 0  # of the last generation
        self.pass_rates: Mapping[str, float | None] = {}

    def __call__(self, *, completion_ids: list[list[int]], prompt_id: list[str], trainer_state: Any, **_: Any) -> list:
        """Totals of this rank's part of a generation, one a completion; None masks the row.

        Every rank grades its share of the groups of all, whole groups, and knows what the others found.
        """
        step = trainer_state.global_step + 1
        rows = self._gather(list(zip(completion_ids, prompt_id, strict=True)))
        started = time.perf_counter()
        group = self.arguments.num_generations
        share = self.world.share_of(len(rows) // group)
        mine = rows[share.start * group : share.stop * group]
        graded: list[Rollout] = []
        if mine:
            batch = self._batch(step, [ids for ids, _ in mine], [prompt for _, prompt in mine])
            result = self.reward(batch)
            graded = self._rollouts(step, batch, result)
            if self.begins(step) and self.world.main:
                for line in diagnose(result, batch):
                    logger.warning("%s", line)
        graded_at = time.perf_counter()
        self.pending = self._gather(graded)
        waited = time.perf_counter() - graded_at
        totals = [r.total for r in self.pending]
        given = shuffled(totals, self.seed, step) if self.settings.shuffle_rewards else totals
        for rollout, reward in zip(self.pending, given, strict=True):
            rollout.reward = reward
        self.account.spend("grade", time.perf_counter() - started - waited)
        first = self.world.rank * len(completion_ids)
        return given[first : first + len(completion_ids)]

    def begins(self, step: int) -> bool:
        """Whether a part of the reward counts for the first time."""
        before, self.step = self.step, step
        return any(before < part.from_step <= step for part in self.reward.settings.parts.values())

    def _gather(self, mine: list[Any]) -> list[Any]:
        """The rows of all ranks; the time until the last one has come is counted as waiting."""
        if self.world.size == 1:
            return mine
        with self.account.phase("wait"):
            return self.world.gather(mine)

    def _batch(self, step: int, completion_ids: list[list[int]], prompt_id: list[str]) -> RewardBatch:
        texts = self.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        prefill = self.settings.prefill or ""
        return RewardBatch(
            completions=[prefill + text for text in texts],
            prompts=[self.prompts[i] for i in prompt_id],
            finish_reasons=["stop" if self.ends & set(ids[-1:]) else "length" for ids in completion_ids],
            token_counts=[len(ids) for ids in completion_ids],
            max_tokens=self.settings.max_new_tokens(step),
            group_size=self.arguments.num_generations,
            step=step,
        )

    def _rollouts(self, step: int, batch: RewardBatch, result: RewardResult) -> list[Rollout]:
        rows = []
        for i, prompt in enumerate(batch.prompts):
            verdict = result.verdicts[i]
            rows.append(
                Rollout(
                    step=step,
                    prompt_id=prompt.prompt_id,
                    sample_index=i % batch.group_size,
                    prompt=self.texts[prompt.prompt_id],
                    completion=batch.completions[i],
                    finish_reason=str(batch.finish_reasons[i]),
                    prompt_tokens=self.lengths[prompt.prompt_id],
                    completion_tokens=batch.token_counts[i],
                    total=result.totals[i],
                    reward=result.totals[i],
                    parts={label: column[i] for label, column in result.parts.items()},
                    status=verdict.status if verdict else None,
                    extracted=verdict.extracted if verdict else None,
                )
            )
        return rows

    def scored(self, advantages: list[float]) -> None:
        """This rank's advantages of the generation: write the rollouts of all, count tokens, hand the metrics over."""
        for rollout, advantage in zip(self.pending, self.world.gather(advantages), strict=True):
            rollout.advantage = advantage
        if self.world.main:
            rollouts.write(self.work, self.pending)
        prompt = sum(r.prompt_tokens for r in self.pending)
        generated = sum(r.completion_tokens for r in self.pending)
        self.account.count(
            prompt=prompt, generated=generated, trained=(prompt + generated) * self.arguments.num_iterations
        )
        if self.log is not None:
            words = self.settings.reflection_words
            self.log.extra |= generation_metrics(self.pending, self.arguments.num_generations, words)
            rates = [rate for r in self.pending if (rate := self.pass_rates.get(r.prompt_id)) is not None]
            self.log.extra |= {"pass_rate": statistics.fmean(rates)} if rates else {}


def shuffled(totals: Sequence[float | None], seed: int, step: int) -> list[float | None]:
    """The control: totals permuted across the whole batch by a permutation of (seed, step), so resume repeats it."""
    mixed = list(totals)
    random.Random(f"{seed}:{step}").shuffle(mixed)
    return mixed


def generation_metrics(rows: Sequence[Rollout], group: int, reflection_words: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of one generation, under the names of openr1.metrics.VOCABULARY.

    Standard deviations are within a group (n - 1); groups with fewer than two unmasked rows count as zero-variance.
    """
    totals = [r.total for r in rows if r.total is not None]
    groups = [[r.reward for r in rows[i : i + group] if r.reward is not None] for i in range(0, len(rows), group)]
    spread = [statistics.stdev(g) if len(g) > 1 else 0.0 for g in groups]
    values = {
        "reward": statistics.fmean(totals) if totals else float("nan"),
        "reward_std": statistics.fmean(spread),
        "reward_spread": statistics.pstdev(totals) if totals else float("nan"),
        "masked": sum(r.reward is None for r in rows) / len(rows),
        "zero_variance_groups": sum(s < 1e-8 for s in spread) / len(spread),
        "completion_tokens": statistics.fmean(r.completion_tokens for r in rows),
        "truncated": sum(r.finish_reason == "length" for r in rows) / len(rows),
    }
    if reflection_words:
        values["reflection"] = reflection_share((r.completion for r in rows), reflection_words)
    for label in rows[0].parts:
        column = [v for r in rows if (v := r.parts[label]) is not None]
        if column:  # a part may be for other prompts than those of this batch, or for later steps
            values[f"reward/{label}"] = statistics.fmean(column)
    return values


def _lengths(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []


def fitting_prompts(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, prefill: str | None, room: int
) -> tuple[list[Prompt], dict[str, int]]:
    """(prompts whose rendered text is at most `room` tokens, reason -> how many were dropped); each prompt once."""
    once = list(prompts_by_id(prompts).values())
    lengths = _lengths(tokenizer, [render(tokenizer, p.messages, prefill) for p in once])
    kept = [p for p, n in zip(once, lengths, strict=True) if n <= room]
    dropped = {"duplicate": len(prompts) - len(once), "too_long": len(once) - len(kept)}
    return kept, {k: n for k, n in dropped.items() if n}


def rollouts_of_ours(arguments: Any, tokenizer: PreTrainedTokenizerBase, seed: int, kind: str) -> Any:
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
    room for a completion, a reward that fails, or a guard that stops; OutsideError
    for a stall, Terminated after SIGTERM. Among several ranks each calls this; rank 0 writes.
    """
    if settings.probes is not None and not probe_prompts:
        raise UserError("probes need prompts to ask; name them as the stage's `probes` input")
    if settings.best is not None and not dev:
        raise UserError("best needs development prompts; name them as the stage's `dev` input")
    arguments = training_arguments("grpo", settings.train, work, seed, settings.parallel)
    world = World.of(arguments)
    resume = find_resume(work, metrics, settings.parallel, world)
    model, tokenizer = open_model(
        model_dir, settings.train, resume.checkpoint if resume.finished else None, settings.lora
    )
    context = min(model.config.max_position_embeddings, arguments.vllm_max_model_length or 1 << 62)
    room = context - (settings.longest() or 0)
    usable, dropped = fitting_prompts(prompts, tokenizer, settings.prefill, room)
    needed = generation_batch(settings.train, arguments.world_size)[0] // arguments.num_generations
    if len(usable) < needed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
        raise UserError(
            f"{len(usable)} prompts{f' ({reasons})' if reasons else ''}, but one generation takes {needed}; give more "
            f"prompts, a smaller batch, or a max_completion_length that leaves room in the context of {context}"
        )
    ends = eos_ids(tokenizer, model.generation_config)
    rendering = copy.deepcopy(tokenizer)  # what the trainer renders with ends in the prefill; what is saved does not
    rendering.chat_template = with_prefill(str(tokenizer.chat_template), settings.prefill)
    grader = Grader(reward, usable, tokenizer, ends, arguments, settings, work, resume.account, seed, world)
    grader.step = resume.step
    grader.pass_rates = pass_rates or {}

    drawn = vllm_rollouts(arguments, model, ends, seed, context)
    with Progress(progress, max(arguments.max_steps, 1)) as bar, nullcontext() if resume.finished else drawn as vllm:
        guards = open_guards(settings, metrics, world)
        watchdog = Watchdog(settings.watchdog_minutes, logs or work / "logs", world.rank, world.size)
        log = grader.log = StepLog(resume.account, metrics, bar, guards, watchdog)
        callbacks: list[Any] = [log]
        if settings.probes is not None and probe_prompts:
            asked = settings.probes, probe_prompts, model, tokenizer, log, work, settings.prefill, world
            callbacks.insert(0, probes.Probes(*asked))

        if settings.best is not None and dev:
            callbacks.insert(0, Best(settings.best, dev, model, tokenizer, log, work, world))

        def make() -> WholeGRPOTrainer:
            return WholeGRPOTrainer(
                model=model,
                reward_funcs=[grader],
                args=arguments,
                train_dataset=datasets.Dataset.from_list(
                    [{"prompt": [dict(m) for m in p.messages], "prompt_id": p.prompt_id} for p in usable]
                ),
                processing_class=rendering,
                callbacks=callbacks,
                account=resume.account,
                **adapter_arguments(settings.lora, seed),
                keep=settings.train.get("save_total_limit"),
                on_scored=grader.scored,
                length_at=settings.max_new_tokens if settings.length_schedule else None,
                order=prompt_order(usable, settings, pass_rates, seed),
                parallel=settings.parallel,
                rollout_func=rollouts_of_ours(arguments, rendering, seed, settings.parallel.kind),
                vllm=vllm,
            )

        lora = settings.lora
        merge = None if lora is None else lambda m, weights: merged(m, weights, lora, model_dir, work / ".adapters")
        choose = None if settings.best is None else lambda: best_model(work, resume.account, lora, model_dir)
        return train_and_finish(
            make, resume, model, tokenizer, out, dropped, settings.parallel, world, log, merge, choose
        )
