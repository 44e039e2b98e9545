"""Prompts, completions and verdicts on disk, brought into one order within bounded memory.

The completions are divided by prompt number into buckets of some thousand rows, joined with their verdicts and sorted
by (prompt, sample index); whatever the order of arrival, row n is row n, and all rows of a prompt are in one bucket.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openr1.curate.ledger import NO_STATUS, STATUS_CODES, Ledger
from openr1.curate.rows import PromptBatch
from openr1.curate.spill import Spill
from openr1.errors import UserError
from openr1.records import PROMPT_SCHEMA

BUCKET_ROWS = 8_192
BUCKET_BYTES = 32 << 20  # of text
BATCH_ROWS = 8_192
BYTES_PER_TOKEN = 4
COMPLETION_COLUMNS = (
    "prompt_id", "sample_index", "text", "finish_reason", "completion_tokens", "error", "answer_start",
)  # fmt: skip
VERDICT_COLUMNS = ("prompt_id", "sample_index", "status", "extracted")
QUESTIONS = pa.schema([("question", pa.large_string())])


class Prompts:
    """A folder of prompts in file order: their ids in memory, their questions in a scratch file."""

    def __init__(self, folder: Path, work: Path, sources: Collection[str] = ()) -> None:
        self.files = sorted(folder.glob("*.parquet"))
        if not self.files:
            raise UserError(f"{folder}: holds no Parquet file; run the stage that makes it again")
        work.mkdir(parents=True, exist_ok=True)
        self._questions = work / "questions.arrow"
        ids: list[bytes] = []
        values = {name: _Codes() for name in sources}
        with pa.OSFile(str(self._questions), "wb") as f, pa.ipc.new_file(f, QUESTIONS, options=_lz4()) as out:
            for table in self.tables(("prompt_id", "task", "messages", "metadata") if sources else ID_AND_MESSAGES):
                ids.extend(pc.cast(table["prompt_id"], pa.binary()).to_pylist())
                out.write_table(
                    pa.table([pa.array(map("\n".join, user_turns(table["messages"])), pa.large_string())], QUESTIONS)
                )
                for name, found in values.items():
                    found.add(_source(table, name))
        self.ids = np.array(ids, dtype="S") if ids else np.empty(0, "S1")
        self._order = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._order]
        self.repeat = np.zeros(len(ids), bool)
        self.repeat[self._order[1:]] = self._sorted[1:] == self._sorted[:-1]
        self.sources = {name: found.sorted() for name, found in values.items()}

    def __len__(self) -> int:
        return len(self.ids)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The prompts in file order, some thousand at a time."""
        names = list(columns or PROMPT_SCHEMA.names)
        for file in self.files:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
                    yield pa.Table.from_batches([batch]).select(names)

    def ranges(self, size: int) -> Iterator[pa.Table]:
        """The prompts in file order, exactly `size` at a time."""
        waiting: list[pa.Table] = []
        for table in self.tables():
            waiting.append(table)
            while sum(t.num_rows for t in waiting) >= size:
                whole = pa.concat_tables(waiting)
                yield whole.slice(0, size)
                waiting = [whole.slice(size)]
        if sum(t.num_rows for t in waiting):
            yield pa.concat_tables(waiting)

    def numbers(self, ids: pa.ChunkedArray) -> np.ndarray:
        """[n] number of the prompt of each id, -1 where there is none."""
        wanted = np.array(pc.cast(ids, pa.binary()).to_pylist(), dtype="S")
        if not len(self.ids) or not len(wanted):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self.ids) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)

    def questions(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, PromptBatch]]:
        """The questions of the prompts with these ascending numbers, a batch at a time."""
        start = 0
        with pa.OSFile(str(self._questions)) as f, pa.ipc.open_file(f) as reader:
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                here = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + len(batch))]
                if len(here):
                    texts = batch.column(0).take(pa.array(here - start)).to_pylist()
                    yield here, PromptBatch([b.decode() for b in self.ids[here].tolist()], texts)
                start += len(batch)


ID_AND_MESSAGES = ("prompt_id", "messages")


def _lz4() -> Any:
    return pa.ipc.IpcWriteOptions(compression="lz4")


def user_turns(messages: pa.ChunkedArray) -> list[list[str]]:
    """What the user says in each of the conversations."""
    return [[m["content"] or "" for m in turns or [] if m["role"] == "user"] for turns in messages.to_pylist()]


def _source(table: pa.Table, name: str) -> list[str]:
    """The value of `task`, or of a key of the metadata, of every prompt."""
    if name == "task":
        return [str(v) for v in table["task"].to_pylist()]
    return [str(json.loads(m or "{}").get(name)) for m in table["metadata"].to_pylist()]


class _Codes:
    """Texts as numbers, a few different ones many times."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.pieces = [np.empty(0, np.int32)]

    def add(self, values: list[str]) -> None:
        self.pieces.append(np.array([self.numbers.setdefault(v, len(self.numbers)) for v in values], np.int32))

    def sorted(self) -> tuple[np.ndarray, list[str]]:
        """[n] codes, and what they mean in the order of the alphabet."""
        names = sorted(self.numbers)
        place = np.empty(len(names), np.int32)
        place[[self.numbers[name] for name in names]] = np.arange(len(names))
        return place[np.concatenate(self.pieces)], names


class Buckets:
    """The completions of the prompts, joined with their verdicts, in files that hold whole prompts."""

    def __init__(self, folder: Path, prompts: Prompts, per_bucket: int) -> None:
        self.folder, self.prompts, self.per_bucket = folder, prompts, per_bucket
        self.edges: list[int] = [0]
        folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def columns(self, bucket: int, names: Sequence[str]) -> pa.Table:
        """Some columns of a bucket's rows, in (prompt, sample index) order."""
        with pa.OSFile(str(self._path(bucket))) as f:
            schema = pa.ipc.open_file(f).schema
            options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(n) for n in names])
            return pa.ipc.open_file(f, options=options).read_all().select(list(names))

    def write(self, bucket: int, table: pa.Table) -> None:
        with pa.OSFile(str(self._path(bucket)), "wb") as f, pa.ipc.new_file(f, table.schema, options=_lz4()) as out:
            out.write_table(table)
        self.edges.append(self.edges[-1] + table.num_rows)

    def _path(self, bucket: int) -> Path:
        return self.folder / f"{bucket:06d}.arrow"


def read_sources(
    prompts: Prompts,
    completions: Iterable[pa.Table] | None,
    verdicts: Iterable[pa.Table] | None,
    size: tuple[int, int],
    work: Path,
) -> tuple[Buckets, Ledger]:
    """Bring completions and verdicts into order; `size` is about how many completions and tokens there are.

    Completions of other prompts are left alone. Raises UserError where completions have no verdict, though there is a
    store of verdicts.
    """
    rows, tokens = size
    number = max(rows / BUCKET_ROWS, tokens * BYTES_PER_TOKEN / BUCKET_BYTES)
    per_bucket = max(1, min(BATCH_ROWS, round(len(prompts) / max(number, 1e-9))))
    texts = Spill(work / "completions", per_bucket)
    grades = Spill(work / "verdicts", per_bucket)
    _divide(texts, prompts, completions or ())
    _divide(grades, prompts, verdicts or ())
    buckets = Buckets(work / "buckets", prompts, per_bucket)
    compact = [_compact(_EMPTY)]
    missing = 0
    for bucket in range(-(-len(prompts) // per_bucket)):
        table, without = _joined(texts.take(bucket), grades.take(bucket))
        missing += without if verdicts is not None else 0
        buckets.write(bucket, table)
        compact.append(_compact(table))
    if missing:
        raise UserError(f"{missing} of {buckets.edges[-1]} completions have no verdict; run verify first")
    columns: dict[str, Any] = {name: np.concatenate([c[name] for c in compact]) for name in _compact(_EMPTY)}
    return buckets, Ledger(prompts.ids, prompts.repeat, prompts.sources, **columns)


def _divide(spill: Spill, prompts: Prompts, tables: Iterable[pa.Table]) -> None:
    for table in tables:
        numbers = prompts.numbers(table["prompt_id"])
        mine = np.flatnonzero(numbers >= 0)
        if len(mine) < table.num_rows:
            table, numbers = table.take(pa.array(mine)), numbers[mine]
        if "text" in table.column_names:
            table = table.set_column(table.column_names.index("text"), "text", table["text"].cast(pa.large_string()))
        spill.add(numbers, table.drop_columns("prompt_id").append_column("prompt", pa.array(numbers, pa.int64())))


_EMPTY = pa.schema(
    [
        ("prompt", pa.int64()),
        ("sample_index", pa.int32()),
        ("text", pa.large_string()),
        ("finish_reason", pa.string()),
        ("completion_tokens", pa.int32()),
        ("error", pa.string()),
        ("answer_start", pa.int32()),
        ("status", pa.string()),
        ("extracted", pa.string()),
    ]
).empty_table()


def _joined(rows: pa.Table | None, grades: pa.Table | None) -> tuple[pa.Table, int]:
    """Completions sorted by (prompt, sample) with their verdicts' columns, and how many have no verdict."""
    if rows is None:
        return _EMPTY, 0
    keys = _keys(rows)
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows.take(pa.array(order))
    if len(keys) > 1 and (keys[1:] == keys[:-1]).any():
        raise UserError(
            "the store of completions holds a (prompt, sample) twice; restore its folder, or generate anew"
        )
    at: np.ndarray = np.full(len(keys), -1)
    if grades is not None:
        theirs = _keys(grades)
        by_key = np.argsort(theirs, kind="stable")
        place = np.minimum(np.searchsorted(theirs[by_key], keys), len(theirs) - 1)
        at = np.where(theirs[by_key][place] == keys, by_key[place], -1)
    index = pa.array(at, pa.int64(), mask=at < 0)
    for name in VERDICT_COLUMNS[2:]:
        column = grades[name].take(index) if grades is not None else pa.nulls(len(keys), pa.string())
        rows = rows.append_column(name, column)
    return rows.select(_EMPTY.column_names).cast(_EMPTY.schema), int((at < 0).sum())


def _keys(table: pa.Table) -> np.ndarray:
    """[n] one integer that sorts as (prompt, sample index)."""
    return (table["prompt"].to_numpy() << 32) + table["sample_index"].to_numpy().astype(np.int64)


def _compact(table: pa.Table) -> dict[str, np.ndarray]:
    names = pa.array(list(STATUS_CODES))
    status = pc.fill_null(pc.index_in(table["status"], value_set=names), NO_STATUS)
    return {
        "prompt": table["prompt"].to_numpy().astype(np.int32),
        "sample": table["sample_index"].to_numpy().astype(np.int32),
        "tokens": table["completion_tokens"].to_numpy().astype(np.int32),
        "status": status.to_numpy().astype(np.int8),
    }
