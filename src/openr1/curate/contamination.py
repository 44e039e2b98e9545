"""The step `decontaminate`: which benchmarks can be checked against, which prompts go, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from openr1.curate.base import PromptStep
from openr1.curate.decontaminate import DecontaminationIndex, Hit
from openr1.curate.rows import Drop, PromptBatch
from openr1.curate.settings import CurateSettings, DecontaminateStep
from openr1.errors import UserError, did_you_mean
from openr1.tasks.benchmarks import NotAvailable, benchmark_files, benchmark_texts
from openr1.tasks.local import open_local

logger = logging.getLogger("openr1")

MOST_PAIRS = 20  # of a benchmark, in the manifest and the report; `dropped` has them all
MOST_TEXT = 600  # characters of a text in a pair


class Decontaminate(PromptStep[DecontaminateStep]):
    """Drops prompts that are copies of benchmark problems, or of parts of them; keeps count by benchmark."""

    def __call__(self, batches: Iterable[PromptBatch]) -> Iterator[list[Drop | None]]:
        index = self._index()
        for batch in batches:
            hits = index.check(batch.questions)
            pairs = zip(hits, batch.questions, strict=True)
            yield [self._drop(hit, question) if hit else None for hit, question in pairs]

    def results(self) -> dict[str, Any]:
        """Of every benchmark: status `checked` or `not checked`, why, problems, hits, and the first pairs."""
        return {"benchmarks": self.told}

    def _index(self) -> DecontaminationIndex:
        s = self.settings
        self.told: dict[str, dict[str, Any]] = {}
        texts: dict[str, list[tuple[str, str]]] = {}
        for name in s.benchmarks():
            found = benchmark_texts(name)
            if isinstance(found, NotAvailable):
                logger.warning("%s: not checked against %s: %s", self.label, name, found)
                self.told[name] = {"status": "not checked", "why": str(found), "problems": 0, "hits": 0, "pairs": []}
            else:
                texts[name] = found
        for name, path in s.files.items():
            texts[name] = read_problems(Path(path).expanduser(), s.column)
        for name, found in texts.items():
            self.told[name] = {"status": "checked", "why": None, "problems": len(found), "hits": 0, "pairs": []}
        return DecontaminationIndex.build(texts, s.ngram, coverage=s.coverage, distinctive=s.distinctive)

    def _drop(self, hit: Hit, question: str) -> Drop:
        for name in hit.benchmarks:
            told = self.told[name]
            told["hits"] += 1
            if name == hit.benchmark and len(told["pairs"]) < MOST_PAIRS:
                pair = {"row": question[:MOST_TEXT], "problem": hit.text[:MOST_TEXT], "id": hit.problem}
                told["pairs"].append(pair | {"how": hit.how, "coverage": hit.coverage})
        also = f"; also {', '.join(hit.also)}" if hit.also else ""
        detail = f"{hit.how} copy of problem {hit.problem}, coverage {hit.coverage:.2f}: {hit.excerpt}{also}"
        return Drop(f"contaminated: {hit.benchmark}", detail)


def read_problems(path: Path, column: str) -> list[tuple[str, str]]:
    """(row number, text) of a file of problems; raises UserError where there is no such file or column, or no text."""
    if not path.exists():
        raise UserError(f"{path}: no such file; mend decontaminate.files")
    source = open_local(path)
    if column not in source.columns:
        raise UserError(f"{path}: no column {column!r} (decontaminate.column); {did_you_mean(column, source.columns)}")
    texts = enumerate("" if row.get(column) is None else str(row[column]) for row in source.rows)
    found = [(str(i), text) for i, text in texts if text.strip()]
    if not found:
        raise UserError(f"{path}: no row has a text in the column {column!r}; mend decontaminate.files, or its column")
    return found


def decontamination_problems(settings: CurateSettings) -> list[str]:
    """Why the given files cannot be checked against, each as a sentence; told before anything is generated."""
    problems: list[str] = []
    for step in settings.steps:
        if not isinstance(step, DecontaminateStep):
            continue
        for path in step.files.values():
            try:
                read_problems(Path(path).expanduser(), step.column)
            except UserError as e:
                problems += e.problems
    return problems


def decontamination_files(settings: CurateSettings) -> dict[str, Path]:
    """Every file that the settings' steps check against, by name: what is in them belongs to the key of the stage."""
    found: dict[str, Path] = {}
    for step in settings.steps:
        if isinstance(step, DecontaminateStep):
            for name in step.benchmarks():
                paths = benchmark_files(name)
                found |= {f"{name}/{i}" if len(paths) > 1 else name: path for i, path in enumerate(paths)}
            found |= {name: Path(path).expanduser() for name, path in step.files.items()}
    return found
