"""Samplers whose order is a function of the seed and of how far training is, so that a resume goes on with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from openr1.records import stable_hash
from openr1.train.curriculum import PromptOrder


class EpochSampler(torch.utils.data.Sampler[int]):
    """A sampler whose order is a function of (seed, epoch), however often the process was started anew."""

    def __init__(self, sampler: Any, trainer: Any) -> None:
        self.sampler, self.trainer = sampler, trainer

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        epoch = int((self.trainer.state.epoch or 0.0) + 1e-6)  # a whole number at the end of an epoch, up to rounding
        seed = int(stable_hash(self.trainer.args.seed, epoch), 16) % 2**63
        self.sampler.generator = torch.Generator().manual_seed(seed)
        return iter(self.sampler)


class OrderedSampler(torch.utils.data.Sampler[int]):
    """TRL's sampler of repeated prompts, its rows in the order of the run."""

    def __init__(self, sampler: Any, trainer: Any, order: PromptOrder) -> None:
        self.sampler, self.trainer, self.order = sampler, trainer, order
        self.sampler.shuffle = False

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        arguments, state = self.trainer.args, self.trainer.state
        size, accumulated = self.sampler.batch_size, arguments.gradient_accumulation_steps
        used = arguments.steps_per_generation * self.trainer.num_iterations  # micro-batches that a generation serves
        generations = math.ceil(state.max_steps * accumulated / used)
        before = math.ceil((self.order.first - 1) * accumulated / used)
        run = self.order.run(before * size, generations * size)
        epoch = int((state.epoch or 0.0) + 1e-6)  # a whole number at the end of an epoch, up to rounding
        length = self.sampler.num_samples // size * size
        rows = run[epoch * length : (epoch + 1) * length]
        rows += rows[:1] * (length - len(rows))  # behind the end of the run, never asked
        return (rows[i] for i in self.sampler if i < len(rows))
