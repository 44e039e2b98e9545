"""A folder of rows: Parquet parts and the journal of what came after them.

`journal-00003.jsonl`, one JSON line a commit, becomes `part-00003.parquet`. Once the part has its name, the journal of
that number is a leftover: readers pass it over, the next writer removes it. So no instant of a kill, and no reader
that looks on while a journal is sealed, sees a row twice or misses one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.errors import OutsideError, UserError
from openr1.records import TIME_COLUMNS, to_table
from openr1.store.keys import Key

Values = dict[str, Any]

PARTS, JOURNALS = "part-*.parquet", "journal-*.jsonl"
GROUP_BYTES = 8 * 2**20  # of text in a row group, so that a reader holds little
DIGEST = b"openr1.digest"
MODULUS = 2**256
EVERYTHING: Mapping[Path, int] = {}


def key_of(row: Values) -> Key:
    return row["prompt_id"], row["sample_index"]


def row_digest(row: Values, names: Sequence[str]) -> int:
    """SHA-256 of a row's values in the order of `names`, as a number."""
    text = json.dumps([row.get(n) for n in names], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


@dataclass(frozen=True)
class Snapshot:
    """What a segment held at one moment: its parts, and the rows of its journal with the length of their lines."""

    parts: list[Path]
    rows: list[Values]
    journal: Path | None = None
    good: int = 0


class Segment:
    """Reads a folder of parts and a journal; with `open`, the holder of its lock writes it too."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self.hashed = [n for n in schema.names if n not in TIME_COLUMNS]
        self.journal_rows, self.journal_bytes = 0, 0
        self._number = 0
        self._file: Any = None

    # -- reading
    def parts(self) -> list[Path]:
        return sorted(self.folder.glob(PARTS))

    def snapshot(self, seen: Mapping[Path, int] = EVERYTHING) -> Snapshot:
        """The parts and the journal that belong together, whatever a writer does meanwhile; of a journal in `seen`
        only what lies behind that many bytes."""
        while True:
            journals = sorted(self.folder.glob(JOURNALS))
            parts = self.parts()
            sealed = {_number(p) for p in parts}
            open_ones = [j for j in journals if _number(j) not in sealed]
            try:
                if not open_ones:
                    return Snapshot(parts, [])
                rows, good = read_journal(open_ones[-1], seen.get(open_ones[-1], 0))
                return Snapshot(parts, rows, open_ones[-1], good)
            except FileNotFoundError:  # sealed since the listing: its part is there now
                continue

    def iter_keys(self) -> Iterator[Key]:
        """The keys of all rows, without their texts."""
        found = self.snapshot()
        for part in found.parts:
            table = pq.read_table(part, columns=["prompt_id", "sample_index"], partitioning=None)
            yield from zip(table["prompt_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True)
        yield from map(key_of, found.rows)

    def tables(self, batch_rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, in tables of at most `batch_rows` rows, the columns that a part lacks left out."""
        found = self.snapshot()
        for part in found.parts:
            with pq.ParquetFile(part) as file:
                names = [n for n in columns or self.schema.names if n in file.schema_arrow.names]
                for batch in file.iter_batches(batch_rows, columns=names):
                    yield pa.Table.from_batches([batch])
        for start in range(0, len(found.rows), batch_rows):
            table = to_table(found.rows[start : start + batch_rows], self.schema)
            yield table.select(list(columns)) if columns is not None else table

    def digest(self) -> int:
        """The sum of all rows' digests modulo 2^256; a part keeps its own in its footer."""
        found = self.snapshot()
        return (sum(map(self._part_digest, found.parts)) + self._sum(found.rows)) % MODULUS

    def _part_digest(self, part: Path) -> int:
        kept = (pq.read_schema(part).metadata or {}).get(DIGEST)
        return int(kept, 16) if kept else self._sum(pq.read_table(part, partitioning=None).to_pylist())

    def _sum(self, rows: Iterable[Values]) -> int:
        return sum(row_digest(row, self.hashed) for row in rows) % MODULUS

    # -- writing, under the store's lock
    def open(self) -> None:
        """Mend what a kill left, and open the journal."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self.snapshot()
        for leftover in (*self.folder.glob(".*.tmp"), *self.folder.glob(JOURNALS)):
            if leftover != found.journal:
                leftover.unlink(missing_ok=True)
        self._number = _number(found.journal) if found.journal else max(map(_number, found.parts), default=-1) + 1
        if found.journal is not None and found.journal.stat().st_size > found.good:
            os.truncate(found.journal, found.good)
        self.journal_rows, self.journal_bytes = len(found.rows), found.good
        self._file = open(self._journal, "ab", buffering=0)  # noqa: SIM115

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _journal(self) -> Path:
        return self.folder / f"journal-{self._number:05d}.jsonl"

    def write(self, rows: Sequence[Values]) -> None:
        """One commit: when this returns the rows are on the disk, and when it raises none of them is."""
        line = json.dumps(list(rows), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except BaseException as e:
            os.truncate(self._journal, self.journal_bytes)
            if isinstance(e, OSError):
                raise OutsideError(
                    f"cannot write to {self.folder}: {e.strerror}; what was committed before is kept"
                ) from e
            raise
        self.journal_rows += len(rows)
        self.journal_bytes += len(line)

    def seal(self) -> None:
        """Turn the journal into a part, in key order, and begin the next journal."""
        rows, good = read_journal(self._journal)
        if not rows:
            return
        part = self.folder / f"part-{self._number:05d}.parquet"
        aside = self.folder / f".{part.name}.tmp"
        table = to_table(sorted(rows, key=key_of), self.schema)
        table = table.replace_schema_metadata({DIGEST: f"{self._sum(rows):x}"})
        group = max(64, len(rows) * GROUP_BYTES // max(good, 1))
        try:
            with open(aside, "wb") as f:
                pq.write_table(table, f, compression="zstd", row_group_size=min(group, len(rows)))
                f.flush()
                os.fsync(f.fileno())
            os.replace(aside, part)
            _sync_folder(self.folder)
        except OSError as e:
            aside.unlink(missing_ok=True)
            raise OutsideError(f"cannot write {part}: {e.strerror or e}; its rows are kept in the journal") from e
        self.close()
        self._journal.unlink()
        self._number, self.journal_rows, self.journal_bytes = self._number + 1, 0, 0
        self._file = open(self._journal, "ab", buffering=0)  # noqa: SIM115


class Tail:
    """Follows the segments of a store while others write them: `read` gives what came since the last one.

    A row is given at least once; again when its journal becomes a part, so the reader tells by its key.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self._sealed: set[Path] = set()
        self._seen: dict[Path, int] = {}

    def read(self, folders: Iterable[Path], batch_rows: int) -> Iterator[pa.Table]:
        for folder in folders:
            found = Segment(folder, self.schema).snapshot(self._seen)
            for part in found.parts:
                if part not in self._sealed:
                    with pq.ParquetFile(part) as file:
                        for batch in file.iter_batches(batch_rows):
                            yield pa.Table.from_batches([batch])
                    self._sealed.add(part)
            if found.journal is not None:
                for start in range(0, len(found.rows), batch_rows):
                    yield to_table(found.rows[start : start + batch_rows], self.schema)
                self._seen[found.journal] = found.good


def read_journal(path: Path, start: int = 0) -> tuple[list[Values], int]:
    """The rows of every whole commit behind the first `start` bytes, and the length in bytes of the good prefix."""
    rows: list[Values] = []
    good = start
    with open(path, "rb") as f:
        f.seek(start)
        lines = f.read().splitlines(keepends=True)
    for i, line in enumerate(lines):
        commit = _commit(line)
        if commit is None:
            if any(_commit(later) for later in lines[i + 1 :]):
                raise UserError(
                    f"{path}: line {i + 1} is damaged and whole commits follow it, which no crash of ours does; "
                    "restore the file, or remove that line to have its rows asked for again"
                )
            break
        rows.extend(commit)
        good += len(line)
    return rows, good


def _commit(line: bytes) -> list[Values] | None:
    """The rows of one journal line, or None where the line is torn or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        rows = json.loads(line)
    except ValueError:
        return None
    return rows if isinstance(rows, list) else None


def _number(path: Path) -> int:
    """3 for `part-00003.parquet` and `journal-00003.jsonl`."""
    return int(path.name.split("-")[1].split(".")[0])


def _sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder, before the file that they replace goes."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
