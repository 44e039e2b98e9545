"""Runs the steps in their order over prompts and completions, and keeps the account.

Steps that look at one prompt's completions at a time are run together in one pass over the buckets; steps that need
more than that run by themselves in between. Which steps share a pass changes nothing of what they answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openr1.curate.base import CompletionStep, LedgerStep, PromptStep
from openr1.curate.choose import SameText, Select
from openr1.curate.contamination import Decontaminate
from openr1.curate.duplicates import ExactDedup, NearDedup
from openr1.curate.filters import (
    Correct,
    Format,
    Graded,
    Language,
    Length,
    QuestionLanguage,
    QuestionLength,
    Repetition,
)
from openr1.curate.ledger import KEPT, Ledger
from openr1.curate.mixing import Mix, PassRate, Split
from openr1.curate.rows import Row
from openr1.curate.settings import StepSettings
from openr1.curate.source import Buckets, Prompts
from openr1.log import Progress

AnyStep = CompletionStep[Any] | PromptStep[Any] | LedgerStep[Any]
STEPS: dict[tuple[str, str], type[AnyStep]] = {
    ("graded", "completion"): Graded,
    ("correct", "completion"): Correct,
    ("format", "completion"): Format,
    ("language", "completion"): Language,
    ("language", "prompt"): QuestionLanguage,
    ("length", "completion"): Length,
    ("length", "prompt"): QuestionLength,
    ("repetition", "completion"): Repetition,
    ("same_text", "completion"): SameText,
    ("select", "completion"): Select,
    ("exact_dedup", "prompt"): ExactDedup,
    ("near_dedup", "prompt"): NearDedup,
    ("decontaminate", "prompt"): Decontaminate,
    ("pass_rate", "prompt"): PassRate,
    ("mix", "completion"): Mix,
    ("mix", "prompt"): Mix,
    ("split", "prompt"): Split,
}
ROW_COLUMNS = ("sample_index", "finish_reason", "completion_tokens", "error", "status")


def run_steps(
    steps: Sequence[StepSettings], prompts: Prompts, buckets: Buckets, ledger: Ledger, seed: int, work: Path
) -> dict[str, Any]:
    """Let every step drop what it drops, in order; the ledger has the account. Returns what steps have to tell."""
    made = [STEPS[s.step, s.unit()](s, seed, work) for s in steps]
    for i, step in enumerate(made):
        nth = sum(s.settings.step == step.settings.step for s in made[: i + 1])
        step.label = step.settings.step if nth == 1 else f"{step.settings.step} {nth}"
    position = 0
    with Progress("curate", len(made)) as progress:
        while position < len(made):
            together = _together(made[position:])
            if together:
                _by_bucket(together, buckets, ledger)
            elif isinstance(step := made[position], PromptStep):
                _by_question(step, prompts, ledger)
            else:
                _by_ledger(step, ledger)  # type: ignore[arg-type]
            position += len(together) or 1
            progress.advance(len(together) or 1)
    return {s.label: found for s in made if (found := s.results())}


def _together(steps: Sequence[AnyStep]) -> list[CompletionStep[Any]]:
    """The steps at the head of the list that a single pass over the buckets can do."""
    found: list[CompletionStep[Any]] = []
    for step in steps:
        if not isinstance(step, CompletionStep):
            break
        found.append(step)
    return found


# ------------------------------------------------------------------------------------------------ completions
def _by_bucket(steps: list[CompletionStep[Any]], buckets: Buckets, ledger: Ledger) -> None:
    before = len(ledger.left())
    names = [*ROW_COLUMNS, "text"] if any(s.needs_text for s in steps) else list(ROW_COLUMNS)
    for bucket in range(len(buckets)):
        for rows in _rows_by_prompt(bucket, names, buckets, ledger):
            _judge(steps, rows, ledger)
    _close_in_order([s.label for s in steps], before, ledger)


def _judge(steps: list[CompletionStep[Any]], rows: list[Row], ledger: Ledger) -> None:
    for step in steps:
        if not rows:
            return
        rows, dropped = step(rows)
        for row, drop in dropped:
            ledger.drop[row.number] = ledger.code(step.label, drop)
    for rank, row in enumerate(rows):
        ledger.rank[row.number] = rank


def _rows_by_prompt(bucket: int, names: list[str], buckets: Buckets, ledger: Ledger) -> Iterator[list[Row]]:
    """The rows of a bucket that are still there, a prompt at a time, in the order that they have."""
    start, stop = buckets.edges[bucket], buckets.edges[bucket + 1]
    alive = np.flatnonzero(ledger.drop[start:stop] == KEPT)
    if not len(alive):
        return
    columns = buckets.columns(bucket, names).take(alive).to_pydict()
    texts = columns.get("text") or [""] * len(alive)
    numbers = alive + start
    of_prompt = ledger.prompt[numbers]
    cuts = [0, *(np.flatnonzero(np.diff(of_prompt)) + 1).tolist(), len(alive)]
    for a, b in zip(cuts, cuts[1:], strict=False):
        prompt_id = ledger.ids[of_prompt[a]].decode()
        rows = [
            Row(
                prompt_id,
                columns["sample_index"][i],
                texts[i],
                columns["finish_reason"][i],
                columns["completion_tokens"][i],
                columns["error"][i],
                columns["status"][i],
                int(numbers[i]),
            )
            for i in range(a, b)
        ]
        rows.sort(key=lambda r: ledger.rank[r.number])
        yield rows


def _close_in_order(names: list[str], before: int, ledger: Ledger) -> None:
    """The funnel's lines of steps that ran together: each begins with what the one before left."""
    for name in names:
        ledger.close(name, "completion", before)
        before = ledger.funnel[-1]["out"]


# ------------------------------------------------------------------------------------------------ prompts
def _by_question(step: PromptStep[Any], prompts: Prompts, ledger: Ledger) -> None:
    name, numbers = step.label, ledger.prompts_left()
    before, rows_before = len(ledger.rl_left()), len(ledger.left())
    asked: list[np.ndarray] = []

    def batches() -> Iterator[Any]:
        for here, batch in prompts.questions(numbers):
            asked.append(here)
            yield batch

    for i, drops in enumerate(step(batches())):
        for number, drop in zip(asked[i], drops, strict=True):
            if drop is not None:
                ledger.drop_prompts(name, np.array([number]), drop)
    ledger.take_completions_along()
    ledger.close(name, "prompt", before)
    ledger.close(name, "completion", rows_before)


def _by_ledger(step: LedgerStep[Any], ledger: Ledger) -> None:
    name, unit = step.label, step.settings.unit()
    before, rows_before = len(ledger.rl_left()), len(ledger.left())
    for numbers, drop in step(ledger):
        if unit == "completion":
            ledger.drop_completions(name, numbers, drop)
        else:
            ledger.drop_prompts(name, numbers, drop, rl_only=step.rl_only)
    if unit == "prompt":
        ledger.close(name, "prompt", before)
    if not step.rl_only:
        ledger.take_completions_along()
        ledger.close(name, "completion", rows_before)
