"""A curriculum by pass rate: prompts that the model already solves often come first, those it rarely solves last.

The order is a function of (seed, epoch, prompts), so a resume in the middle of an epoch goes on with the same one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from openr1.errors import UserError
from openr1.records import stable_hash
from openr1.train.settings import CurriculumSettings

Order = Callable[[int, int], list[int]]  # (epoch from 0, prompts that the rest of the run takes) -> rows in order


def curriculum_order(
    ids: Sequence[str], rates: Mapping[str, float | None], settings: CurriculumSettings, seed: int
) -> Order:
    """The order of the prompts `ids` in an epoch.

    A prompt stands at its difficulty, 1 - pass rate, moved by at most half of `spread` either way: what is asked at
    one time comes from a band of that width, which moves through the difficulties. A prompt without a measured rate
    may stand anywhere. A run that ends within the epoch is asked a seeded draw of the prompts, so that it still ends
    with the last ones of the order. Raises UserError where no prompt has a rate.
    """
    known = {i: rate for i in ids if (rate := rates.get(i)) is not None}
    if not known:
        raise UserError("curriculum: no prompt has a measured pass rate; give the stage an `rl` output of curate")

    def place(row: int, epoch: int) -> float:
        rate = known.get(ids[row])
        draw = _draw(seed, epoch, ids[row])
        if rate is None:
            return draw
        difficulty = 1 - rate if settings.order == "easy_to_hard" else rate
        return difficulty + settings.spread * (draw - 0.5)

    def order(epoch: int, left: int) -> list[int]:
        rows = list(range(len(ids)))
        if left < len(rows):
            rows.sort(key=lambda row: _draw(seed, epoch, "asked", ids[row]))
        parts = rows[:left], rows[left:]
        return [row for part in parts for row in sorted(part, key=lambda r: (place(r, epoch), _draw(seed, epoch, r)))]

    return order


def _draw(*parts: Any) -> float:
    """A number in [0, 1) that is a function of `parts`."""
    return int(stable_hash(*parts), 16) / 16**16


class CurriculumSampler(torch.utils.data.Sampler[int]):
    """TRL's sampler of repeated prompts, its rows in the order of a curriculum."""

    def __init__(self, sampler: Any, trainer: Any, order: Order) -> None:
        self.sampler, self.trainer, self.order = sampler, trainer, order
        self.sampler.shuffle = False

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        arguments, state = self.trainer.args, self.trainer.state
        epoch = int((state.epoch or 0.0) + 1e-6)
        used = arguments.steps_per_generation * self.trainer.num_iterations  # micro-batches that a generation serves
        generations = math.ceil(state.max_steps * arguments.gradient_accumulation_steps / used)
        per_epoch = self.sampler.num_samples // self.sampler.batch_size
        left = (generations - epoch * per_epoch) * self.sampler.batch_size
        rows = self.order(epoch, max(left, 0))
        return (rows[i] for i in self.sampler)
