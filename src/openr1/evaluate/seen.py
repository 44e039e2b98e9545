"""Which problems of a benchmark stand in training data, by the same index that decontamination uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.tasks.local import open_local
from openr1.tasks.questions import BenchmarkQuestion

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
COLUMNS = ("question", "problem", "prompt", "instruction", "text")
CONVERSATIONS = ("messages", "prompt", "conversations")
CHUNK = 4096


def training_files(paths: Sequence[str]) -> list[Path]:
    """The data files that `trained_on` names, folders with all that is in them; UserError where there is none."""
    found: list[Path] = []
    problems = []
    for text in paths:
        path = Path(text).expanduser()
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
        if not files:
            problems.append(f"trained_on: {text} is no file and no folder with {', '.join(SUFFIXES)}; mend the path")
        found += files
    if problems:
        raise UserError(*problems)
    return found


def flagged(questions: Sequence[BenchmarkQuestion], files: Sequence[Path]) -> set[str]:
    """Ids of the questions of which a copy, or a good part, stands in the training data."""
    from openr1.curate.decontaminate import DecontaminationIndex

    index = DecontaminationIndex.build({"it": [(q.id, q.text) for q in questions]})
    found: set[str] = set()
    for file in files:
        texts = _texts(file)
        while chunk := list(islice(texts, CHUNK)):
            found |= {hit.problem for hit in index.check(chunk) if hit is not None}
    return found


def _texts(file: Path) -> Iterator[str]:
    """What was asked in every row of a file: the user's turns of a conversation, or the first text column."""
    source = open_local(file)
    conversation = next((c for c in CONVERSATIONS if c in source.columns), None)
    column = next((c for c in COLUMNS if c in source.columns), None)
    if conversation is None and column is None:
        known = ", ".join(dict.fromkeys((*COLUMNS, *CONVERSATIONS)))
        raise UserError(f"trained_on: {file} has none of the columns {known}; there is {', '.join(source.columns)}")
    for row in source.rows:
        turns = row.get(conversation) if conversation else None
        if isinstance(turns, list):
            yield "\n".join(_user_turns(turns))
        elif column is not None and row.get(column) is not None:
            yield str(row[column])


def _user_turns(turns: Sequence[Any]) -> Iterator[str]:
    for turn in turns:
        if isinstance(turn, dict) and turn.get("role", turn.get("from")) in ("user", "human"):
            yield str(turn.get("content", turn.get("value")) or "")
