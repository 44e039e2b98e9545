"""Stop SFT by measured accuracy: how competent a policy is at the start decides what GRPO can gain, steps do not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from openr1.records import Completion, Prompt, Verdict
from openr1.train.parallel import World
from openr1.train.settings import BestSettings, StopAtSettings
from openr1.train.step_log import StepLog


def model_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    batch_size: int,
    prefill: str | None = None,
    temperature: float = 0.0,
) -> list[tuple[Completion, Verdict]]:
    """One completion of each prompt with its verdict, greedy at temperature 0; no generator is advanced."""
    from openr1.engines.base import make_requests
    from openr1.engines.settings import SamplingSettings
    from openr1.engines.transformers import TransformersEngine
    from openr1.verify import grade_completions

    sampling = SamplingSettings(temperature=temperature, max_new_tokens=max_new_tokens)
    training = model.training
    with untouched_randomness():
        model.eval()
        try:
            engine = TransformersEngine(model, tokenizer, batch_size=batch_size)
            commits = engine.generate(make_requests(prompts, 1, 0), sampling, prefill=prefill)
            found: dict[str, Completion] = {c.prompt_id: c for commit in commits for c in commit}
        finally:
            model.train(training)
        completions = [found[p.prompt_id] for p in prompts]
        verdicts = grade_completions(prompts, completions)
    return list(zip(completions, verdicts, strict=True))


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


def measured_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    settings: StopAtSettings | BestSettings,
) -> float:
    """Share of `prompts` whose completion is correct, masked ones left out."""
    answers = model_answers(
        model, tokenizer, prompts, settings.max_new_tokens, settings.batch_size, temperature=settings.temperature
    )
    scores = [v.score for _, v in answers if v.score is not None]
    return sum(scores) / max(len(scores), 1)


class StopAt(TrainerCallback):
    """Measures accuracy on the development prompts every `every` steps and ends training once it is reached.

    Must come before the StepLog among the callbacks, whose step seconds leave the measurement out.
    """

    def __init__(
        self,
        settings: StopAtSettings,
        dev: Sequence[Prompt],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        log: StepLog,
        world: World,
    ) -> None:
        self.settings, self.model, self.tokenizer, self.log, self.world = settings, model, tokenizer, log, world
        self.prompts = list(dev)[: settings.prompts]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.settings.every:
            return
        with self.log.aside("evaluate"):
            accuracy = self.world.share(
                lambda: measured_accuracy(self.model, self.tokenizer, self.prompts, self.settings)
            )
        self.log.extra["accuracy"] = accuracy
        if accuracy >= self.settings.accuracy:
            self.log.account.stopped = (
                f"{self.settings.measure} accuracy {accuracy:.3f} reached {self.settings.accuracy:g} "
                f"at step {state.global_step} (n = {len(self.prompts)})"
            )
            control.should_training_stop = True
