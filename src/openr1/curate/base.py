"""What a step is: it looks at rows and answers which are kept, and which are dropped and why.

A step is pure: what it answers depends on the rows, its settings and the seed, never on the order in which rows
arrived or on how they were divided. There are three shapes, by what a step has to see at once: the completions of one
prompt (`CompletionStep`), the questions of all prompts as a stream (`PromptStep`), or compact columns of everything
without the texts (`LedgerStep`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from openr1.curate.ledger import Ledger
from openr1.curate.rows import Drop, PromptBatch, Row
from openr1.curate.settings import StepSettings

S = TypeVar("S", bound=StepSettings)


Kept = list[Row]
Dropped = list[tuple[Row, Drop]]


class _Step(ABC, Generic[S]):
    """Settings, the seed, and a scratch folder for what does not belong into memory."""

    def __init__(self, settings: S, seed: int = 0, work: Path | None = None) -> None:
        self.settings, self.seed, self.work = settings, seed, work
        self.label: str = settings.step  # its name in the account; the second of a kind has a number

    def results(self) -> dict[str, Any]:
        """What the step has to tell beside its drops; goes into the manifest under its name."""
        return {}


class CompletionStep(_Step[S]):
    """Judges the completions of one prompt. `needs_text`: whether it looks at the texts."""

    needs_text = True

    @abstractmethod
    def __call__(self, rows: Sequence[Row]) -> tuple[Kept, Dropped]:
        """The rows of one prompt that are kept, in the order that they shall have, and the others with reasons."""


class RowFilter(CompletionStep[S]):
    """A step that judges every completion by itself."""

    @abstractmethod
    def fault(self, row: Row) -> Drop | None:
        """Why the row goes, or None."""

    def __call__(self, rows: Sequence[Row]) -> tuple[Kept, Dropped]:
        kept: Kept = []
        dropped: Dropped = []
        for row in rows:
            drop = self.fault(row)
            if drop is None:
                kept.append(row)
            else:
                dropped.append((row, drop))
        return kept, dropped


class PromptStep(_Step[S]):
    """Judges prompts by their questions; a prompt that goes takes its completions with it."""

    @abstractmethod
    def __call__(self, batches: Iterable[PromptBatch]) -> Iterator[list[Drop | None]]:
        """One list a batch, in the order of the batches, aligned with its prompts.

        A step that must see all before it can judge reads the stream to its end before it yields.
        """


class PromptFilter(PromptStep[S]):
    """A step that judges every question by itself."""

    @abstractmethod
    def fault(self, question: str) -> Drop | None:
        """Why the prompt goes, or None."""

    def __call__(self, batches: Iterable[PromptBatch]) -> Iterator[list[Drop | None]]:
        for batch in batches:
            yield [self.fault(question) for question in batch.questions]


class LedgerStep(_Step[S]):
    """Judges from the compact columns of all prompts and completions.

    `rl_only`: a prompt that goes leaves the RL set and nothing else.
    """

    rl_only = False

    @abstractmethod
    def __call__(self, ledger: Ledger) -> list[tuple[np.ndarray, Drop]]:
        """Numbers of the prompts (or completions, by the settings' unit) that go, by reason."""
