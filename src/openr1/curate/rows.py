"""What a step looks at, and why something of it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a row goes. Reasons are counted, so there are few; `detail` says what is particular to the row."""

    reason: str
    detail: str | None = None


@dataclass(slots=True)
class Row:
    """One completion with its verdict, as the steps see it; `text` is "" for a step that does not ask for texts."""

    prompt_id: str
    sample_index: int
    text: str
    finish_reason: str
    completion_tokens: int
    error: str | None
    status: str | None
    number: int = 0  # of the row in the ledger


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Some prompts: their ids and their questions (all that the user says, one turn a line), aligned."""

    ids: Sequence[str]
    questions: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)
