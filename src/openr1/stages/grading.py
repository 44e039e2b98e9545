"""Grading a store of completions into a store of verdicts: in batches, what has its verdict already left alone.

A verdict belongs to a text, not to a key: a completion store that was made again holds other texts under the same
keys. So a verdict carries the hash of its text, and one whose text is not there any more is set aside.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openr1.manifest import move_aside
from openr1.records import MASKED, Completion, Prompt, from_table
from openr1.stages.base import GradedRow, completion_store, read_rows, text_hash, verdict_store
from openr1.store import AppendStore

logger = logging.getLogger("openr1")

BATCH = 1024
KEYS = ["prompt_id", "sample_index"]


class Golds:
    """What grading needs of the prompts of a folder: gold, verifier and what the verifier needs, by prompt id."""

    def __init__(self, folder: Path) -> None:
        self._rows = read_rows(folder, ["prompt_id", "answer", "verifier", "metadata"])
        self._row_of = {prompt: row for row, prompt in enumerate(self._rows["prompt_id"].to_pylist())}

    def __contains__(self, prompt_id: object) -> bool:
        return prompt_id in self._row_of

    def __len__(self) -> int:
        return len(self._row_of)

    def verifiers(self) -> list[str]:
        """The verifiers that its prompts name."""
        return sorted(self._rows["verifier"].unique().to_pylist())

    def of(self, completions: Sequence[Completion]) -> list[Prompt]:
        """The prompt of each completion, without its messages, which grading does not read."""
        rows = self._rows.take([self._row_of[c.prompt_id] for c in completions]).to_pylist()
        return [Prompt(task="", messages=[], **row) for row in rows]


@dataclass
class Grader:
    """Grades tables of completions into an open store of verdicts."""

    golds: Golds
    store: AppendStore[GradedRow]
    workers: int | None = None
    new: int = field(default=0)

    def grade(self, table: pa.Table) -> int:
        """Grade those rows of a table that have a prompt and no verdict yet; returns how many."""
        from openr1.verify import grade_completions

        rows = zip(*(table[k].to_pylist() for k in KEYS), strict=True)
        wanted = [p in self.golds and (p, i) not in self.store for p, i in rows]
        todo = from_table(table.filter(pa.array(wanted, pa.bool_())), Completion)
        if todo:
            verdicts = grade_completions(self.golds.of(todo), todo, self.workers)
            graded = zip(todo, verdicts, strict=True)
            self.store.append([GradedRow.of(c.key, v, text_hash(c.text)) for c, v in graded])
        self.new += len(todo)
        return len(todo)


def completion_tables(folder: Path) -> Iterator[pa.Table]:
    """The completions of a store, a batch of grading at a time."""
    return completion_store(folder, {}).iter_tables(BATCH)


@dataclass
class Summary:
    """Verdicts over the completions whose prompts are asked for."""

    rows: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    verifiers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, store: AppendStore[GradedRow], golds: Golds) -> Summary:
        found = cls()
        for table in store.iter_tables(65_536, ["prompt_id", "status", "verifier", "version"]):
            for prompt, status, verifier, version in zip(*(c.to_pylist() for c in table.columns), strict=True):
                if prompt in golds:
                    found.rows += 1
                    found.by_status[status] += 1
                    found.verifiers.add(f"{verifier} {version}".strip())
        return found

    @property
    def masked(self) -> int:
        return sum(n for status, n in self.by_status.items() if status in MASKED)


# -------------------------------------------------------------------------------------------- verdicts of other texts
def set_stale_aside(folder: Path, completions: Path, identity: Mapping[str, Any], name: str) -> int:
    """Keep in the verdict store `folder` only verdicts whose text is in the store `completions`; returns how many
    are not. The store as it was moves to `<folder>.old-N`. Nobody may hold it open. Memory: 8 bytes a verdict."""
    aside = folder.with_name(f".{folder.name}.kept")
    if aside.exists():  # of a kill in the lines below
        shutil.rmtree(aside)
    old = verdict_store(folder, {}).load()
    if not len(old):
        return 0
    prints = np.sort(np.concatenate([_of_verdicts(t) for t in old.iter_tables(65_536, [*KEYS, "text_hash"])]))
    there = np.zeros(len(prints), dtype=bool)
    for table in completion_store(completions, {}).iter_tables(BATCH, [*KEYS, "text"]):
        there[_positions(prints, _of_texts(table))] = True
    stale = int((~there).sum())
    if stale:
        _keep(old, prints[there], aside, identity)
        kept = move_aside(folder)
        os.replace(aside, folder)
        logger.warning(
            "%s: %d of %d verdicts are of texts that are not there any more; those completions are graded again, "
            "the old verdicts are kept in %s",
            name, stale, len(prints), kept.name,
        )  # fmt: skip
    return stale


def _keep(old: AppendStore[GradedRow], prints: np.ndarray, aside: Path, identity: Mapping[str, Any]) -> None:
    with verdict_store(aside, dict(identity)) as new:
        for table in old.iter_tables(BATCH):
            mine = _of_verdicts(table)
            new.append(from_table(table.filter(pa.array(np.isin(mine, prints))), GradedRow))
        new.seal()


def _fingerprint(prompt_id: str, sample_index: int, of_text: str | None) -> int:
    digest = hashlib.sha256(f"{prompt_id}\0{sample_index}\0{of_text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8])


def _of_verdicts(table: pa.Table) -> np.ndarray:
    rows = zip(*(table[c].to_pylist() for c in (*KEYS, "text_hash")), strict=True)
    return np.fromiter((_fingerprint(*row) for row in rows), dtype=np.uint64, count=table.num_rows)


def _of_texts(table: pa.Table) -> np.ndarray:
    rows = zip(*(table[c].to_pylist() for c in (*KEYS, "text")), strict=True)
    return np.fromiter((_fingerprint(p, i, text_hash(t)) for p, i, t in rows), dtype=np.uint64, count=table.num_rows)


def _positions(prints: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where in the sorted `prints` the `wanted` ones are, those that are not there left out."""
    at = np.searchsorted(prints, wanted)
    at[at == len(prints)] = 0
    return at[prints[at] == wanted]
