"""Rewards that rest on the verdict or on the number of tokens."""

from __future__ import annotations

import math

from openr1.errors import UserError
from openr1.records import Verdict
from openr1.rewards.types import RewardBatch
from openr1.verify.extract import split_reasoning


def accuracy(batch: RewardBatch) -> list[float | None]:
    """1 for a correct answer, 0 for any other, None (masked) where the grading failed on our side.

    DeepSeek-R1, section 2.2.2 (arXiv 2501.12948).
    """
    return [verdict.score for verdict in batch.graded()]


def reasoning_accuracy(batch: RewardBatch) -> list[float | None]:
    """As `accuracy`, but 0 unless the reasoning was opened and closed: TRL's `reasoning_accuracy_reward`."""
    closed = [split_reasoning(text).closed for text in batch.completions]
    return [
        None if verdict.score is None else (verdict.score if ok else 0.0)
        for verdict, ok in zip(batch.graded(), closed, strict=True)
    ]


def _budget(batch: RewardBatch, max_tokens: int | None, reward: str) -> int:
    limit = max_tokens if max_tokens is not None else batch.max_tokens
    if limit is None or limit < 1:
        raise UserError(f"reward {reward!r} needs max_tokens: the run has no completion limit, so set it in params")
    return limit


def cosine(
    batch: RewardBatch,
    *,
    min_value_wrong: float = -1.0,
    max_value_wrong: float = -0.5,
    min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
    max_tokens: int | None = None,
) -> list[float | None]:
    """Correctness scaled by the number of tokens along a cosine, clamped at the limit.

    A short correct answer earns most, a short wrong one loses most. Demystifying Long Chain-of-Thought Reasoning
    (arXiv 2502.03373), appendix C.1; equal to TRL's `get_cosine_scaled_reward`.
    """
    limit = _budget(batch, max_tokens, "cosine")

    def value(verdict: Verdict, tokens: int) -> float | None:
        if verdict.score is None:
            return None
        low, high = (min_value_correct, max_value_correct) if verdict.score else (max_value_wrong, min_value_wrong)
        return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * min(tokens / limit, 1.0)))

    return [value(v, n) for v, n in zip(batch.graded(), batch.token_counts, strict=True)]


def length(batch: RewardBatch) -> list[float | None]:
    """Kimi k1.5's length reward, within each group: lambda = 0.5 - (len - min) / (max - min).

    A correct answer earns lambda, a wrong one min(0, lambda); 0 where all lengths of the group are equal. Lengths are
    tokens. Kimi k1.5 (arXiv 2501.12599), section 2.3.3.
    """
    rewards: list[float | None] = [None] * len(batch)
    verdicts = batch.graded()
    for rows in batch.groups():
        counts = [batch.token_counts[i] for i in rows]
        low, high = min(counts), max(counts)
        for i in rows:
            score = verdicts[i].score
            if score is None:
                continue
            share = 0.0 if high == low else 0.5 - (batch.token_counts[i] - low) / (high - low)
            rewards[i] = share if score else min(0.0, share)
    return rewards


def soft_overlong(batch: RewardBatch, *, cache: int, max_tokens: int | None = None) -> list[float | None]:
    """0 up to `max_tokens - cache` tokens, then linearly down to -1 at `max_tokens`, -1 beyond.

    DAPO (arXiv 2503.14476), equation 13; equal to TRL's `get_soft_overlong_punishment`.
    """
    limit = _budget(batch, max_tokens, "soft_overlong")
    if not 0 <= cache <= limit:
        raise UserError(f"reward 'soft_overlong': cache is {cache}; it must lie between 0 and max_tokens ({limit})")
    start = limit - cache
    return [0.0 if n <= start else (-1.0 if n > limit else (start - n) / cache) for n in batch.token_counts]
