"""The one reward function that GRPO's trainer is handed, and what a generation is measured by."""

from __future__ import annotations

import logging
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from openr1.models.chat import render
from openr1.records import Prompt, prompts_by_id
from openr1.rewards import ComposedReward, RewardBatch, RewardResult, diagnose
from openr1.rewards.reflection import reflection_share
from openr1.train import rollouts
from openr1.train.account import Account
from openr1.train.parallel import World
from openr1.train.rollouts import Rollout
from openr1.train.settings import GRPOSettings
from openr1.train.step_log import StepLog

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
        self.lengths = dict(zip(self.texts, token_lengths(tokenizer, list(self.texts.values())), strict=True))
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


def token_lengths(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
