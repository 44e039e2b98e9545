"""Steps that look at the completions of one prompt beside each other: equal texts, and the choice of k."""

from __future__ import annotations

from collections.abc import Sequence

from openr1.curate.base import CompletionStep, Dropped, Kept
from openr1.curate.rows import Drop, Row
from openr1.curate.settings import SameTextStep, SelectStep
from openr1.records import stable_hash

SHINGLE_WORDS = 3


class SameText(CompletionStep[SameTextStep]):
    """The sample with the smallest index stays."""

    def __call__(self, rows: Sequence[Row]) -> tuple[Kept, Dropped]:
        first: dict[str, Row] = {}
        for row in rows:
            if row.text not in first or row.sample_index < first[row.text].sample_index:
                first[row.text] = row
        kept = [row for row in rows if first[row.text] is row]
        gone = [
            (row, Drop("same text as another sample", f"sample {first[row.text].sample_index}"))
            for row in rows
            if first[row.text] is not row
        ]
        return kept, gone


class Select(CompletionStep[SelectStep]):
    """The first `per_prompt` of an order: by tokens, by a seeded draw, or by distance from those before."""

    @property
    def needs_text(self) -> bool:  # type: ignore[override]
        return self.settings.by == "diverse"

    def __call__(self, rows: Sequence[Row]) -> tuple[Kept, Dropped]:
        k = self.settings.per_prompt
        chosen = self._ordered(list(rows))
        drop = Drop(f"more than {k} of the prompt")
        return chosen[:k], [(row, drop) for row in chosen[k:]]

    def _ordered(self, rows: list[Row]) -> list[Row]:
        if self.settings.by == "random":
            return sorted(rows, key=lambda r: stable_hash(self.seed, r.prompt_id, r.sample_index))
        rows.sort(key=lambda r: (r.completion_tokens, r.sample_index))
        return _farthest_first(rows, self.settings.per_prompt) if self.settings.by == "diverse" else rows


def _farthest_first(rows: list[Row], k: int) -> list[Row]:
    """Max-min: each next row has the greatest Jaccard distance from the nearest that was taken (Gonzalez 1985)."""
    if len(rows) <= k:
        return rows
    shingles = [_shingles(row.text) for row in rows]
    nearest = [1.0] * len(rows)
    taken = [0]
    while len(taken) < k:
        last = shingles[taken[-1]]
        nearest = [min(d, _distance(s, last)) for d, s in zip(nearest, shingles, strict=True)]
        taken.append(max((i for i in range(len(rows)) if i not in taken), key=lambda i: (nearest[i], -i)))
    return [rows[i] for i in taken] + [row for i, row in enumerate(rows) if i not in taken]


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = text.split()
    n = min(SHINGLE_WORDS, len(words))
    return frozenset(zip(*(words[i:] for i in range(n)), strict=False)) if n else frozenset()


def _distance(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    union = len(a | b)
    return 1 - len(a & b) / union if union else 0.0
