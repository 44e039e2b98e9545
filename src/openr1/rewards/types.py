"""What a reward function is given and what the composition of several returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from openr1.records import Prompt, Verdict


@dataclass
class RewardBatch:
    """Completions of one training step, one entry a row in every list.

    `completions` is the assistant's text without special tokens and with the prefill, if any. Rows of one prompt stand
    together: row i belongs to group `i // group_size`. `token_counts` counts generated tokens, `max_tokens` is their
    limit. `verdicts` is filled on first need, so that several parts share one grading. `step` is the optimizer step
    that learns from them first, from 1; None outside of training.
    """

    completions: list[str]
    prompts: list[Prompt]
    finish_reasons: list[str | None]
    token_counts: list[int]
    max_tokens: int | None
    group_size: int
    verdicts: list[Verdict] | None = field(default=None, repr=False)
    step: int | None = None

    def __len__(self) -> int:
        return len(self.completions)

    def graded(self) -> list[Verdict]:
        """The verdict of every row, by its prompt's own verifier; computed once."""
        if self.verdicts is None:
            from openr1.verify import grade

            self.verdicts = grade(
                gold=[p.answer for p in self.prompts],
                completion=self.completions,
                verifier=[p.verifier for p in self.prompts],
                info=[p.info for p in self.prompts],
                finish_reason=self.finish_reasons,
            )
        return self.verdicts

    def take(self, rows: Sequence[int], group_size: int | None = None) -> RewardBatch:
        """Some rows as a batch of their own; whole groups, unless another `group_size` is given."""
        return replace(
            self,
            completions=[self.completions[i] for i in rows],
            prompts=[self.prompts[i] for i in rows],
            finish_reasons=[self.finish_reasons[i] for i in rows],
            token_counts=[self.token_counts[i] for i in rows],
            verdicts=None if self.verdicts is None else [self.verdicts[i] for i in rows],
            group_size=group_size or self.group_size,
        )

    def groups(self) -> list[range]:
        """The rows of each group."""
        size = max(1, self.group_size)
        return [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]


@dataclass
class RewardResult:
    """Totals a row (None masks the row), the unweighted value of every part, and the verdicts that were asked for.

    A part is None where it is masked, and where it does not count: it is for other prompts, or for later steps.
    """

    totals: list[float | None]
    parts: dict[str, list[float | None]]
    verdicts: list[Verdict | None]


RewardFunction = Callable[..., list[float | None]]
