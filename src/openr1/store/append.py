"""The append-only store of completions or verdicts: every commit is atomic, every key is in it exactly once.

A store is a folder. New rows go to a journal, flushed to disk before `append` returns; a journal that has grown
becomes a Parquet part. Memory holds the keys, never the rows. One writer at a time; or, with shards, one writer a
shard, each in a folder of its own inside the store's (`shard-00003-of-00016/`), none of which needs to know of the
others. Readers see the union.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from openr1.errors import UserError
from openr1.manifest import differences, hash_json, write_json
from openr1.records import from_table, to_dict
from openr1.store.keys import Key, Keys
from openr1.store.lock import FileLock, holder_of, is_locked
from openr1.store.segment import MODULUS, Segment, Tail, key_of, row_digest
from openr1.store.shard import Shard, shard_folders

Row = TypeVar("Row")

IDENTITY = "identity.json"
GATE_PATIENCE = 120.0  # seconds: a thousand tasks that start at once pass one after the other
BATCH_ROWS = 1024


class AppendStore(Generic[Row]):
    """Rows of one record type, keyed by (prompt_id, sample_index), in a folder.

    `identity` is what all rows have in common (model revision, sampling, template); opening a store begun with
    another identity is refused with the difference. With `shard`, the store is that range of prompt ids: its rows are
    those of the range, wherever they lie, and new ones go to the shard's own folder.

    `PART_BYTES` and `PART_ROWS` bound the journal: past either it becomes a part.
    """

    PART_BYTES, PART_ROWS = 64 * 2**20, 20_000

    def __init__(
        self, folder: Path, kind: type[Row], schema: pa.Schema, identity: dict[str, Any], shard: Shard | None = None
    ) -> None:
        self.folder, self.kind, self.schema, self.identity, self.shard = folder, kind, schema, identity, shard
        self._floats = [f.name for f in schema if pa.types.is_floating(f.type)]
        self._strings = [f.name for f in schema if pa.types.is_string(f.type)]
        self._keys = Keys()
        self._digest = 0
        self._own = Segment(folder / f"shard-{shard.name}" if shard else folder, schema)
        self._locks: list[FileLock] = []

    # -- opening
    def __enter__(self) -> AppendStore[Row]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if self.shard is None:
                self._lock_whole()
                self._check_identity()
            else:
                self._lock_shard(self.shard)
            self._own.open()
            self._read_keys()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._own.close()
        while self._locks:
            self._locks.pop().release()

    def load(self) -> AppendStore[Row]:
        """Read the keys of what is there without taking the writer's lock."""
        self._read_keys()
        return self

    def _take(self, path: Path, what: str, shared: bool = False) -> None:
        self._locks.append(FileLock(path, what, shared).acquire())

    def _lock_whole(self) -> None:
        try:
            self._take(self.folder / ".lock", f"the store {self.folder}")
        except UserError:
            self._refuse_active(shard_folders(self.folder), "the store cannot be written as a whole")
            raise

    def _lock_shard(self, shard: Shard) -> None:
        """One at a time, so that two partitions that start at the same moment see each other."""
        with FileLock(self.folder / ".gate", f"the door of {self.folder}", patience=GATE_PATIENCE):
            others = [f for f in shard_folders(self.folder) if Shard.of_folder(f).count != shard.count]
            self._refuse_active(others, f"shard {shard} is of another partition")
            self._take(self.folder / ".lock", f"the store {self.folder}", shared=True)
            self._take(self._own.folder / ".lock", f"shard {shard} of the store {self.folder}")
            self._check_identity()

    def _refuse_active(self, folders: Sequence[Path], why: str) -> None:
        active = [f for f in folders if is_locked(f / ".lock")]
        if active:
            shown = ", ".join(f"{Shard.of_folder(f)} ({holder_of(f / '.lock')})" for f in active[:3])
            more = f" and {len(active) - 3} more" if len(active) > 3 else ""
            raise UserError(
                f"the store {self.folder} is in use by shard {shown}{more}: {why}; wait for them to end, or stop them"
            )

    def _check_identity(self) -> None:
        path = self.folder / IDENTITY
        identity = json.loads(json.dumps(self.identity, default=str))
        if not path.exists():
            write_json(path, identity)
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != identity:
            what = "; ".join(differences(found, identity)[:8])
            raise UserError(f"{self.folder}: begun with other settings ({what}); use another run name, or rerun")

    def _segments(self) -> list[Segment]:
        """Everything that holds rows of this store or, for a shard, may hold rows of its range."""
        folders = [self.folder, *shard_folders(self.folder)]
        if self.shard is not None:
            count = self.shard.count
            folders = [f for f in folders if f == self.folder or Shard.of_folder(f).count != count]
            folders.append(self._own.folder)
        return [Segment(folder, self.schema) for folder in folders]

    def _read_keys(self) -> None:
        self._keys = Keys()
        for segment in self._segments():
            for key in segment.iter_keys():
                if self._is_mine(segment, key[0]):
                    self._keys.add(key)
        own = self._segments() if self.shard is None else [self._own]
        self._digest = sum(segment.digest() for segment in own) % MODULUS

    def _is_mine(self, segment: Segment, prompt_id: str) -> bool:
        return self.shard is None or segment.folder == self._own.folder or prompt_id in self.shard

    # -- reading
    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Keys:
        """The keys, live: what is appended later is in them too."""
        return self._keys

    def iter_tables(self, batch_rows: int = BATCH_ROWS, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows as they lie on the disk (no order), in Arrow tables of at most `batch_rows` rows."""
        names = list(columns or self.schema.names)
        for table in self._tables(batch_rows, names):
            yield _conform(table, self.schema, names)

    def iter_rows(self, batch_rows: int = BATCH_ROWS) -> Iterator[Row]:
        """All rows as records, in the order of `iter_tables`."""
        for table in self._tables(batch_rows, None):
            yield from from_table(table, self.kind)

    def _tables(self, batch_rows: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        wanted = None if columns is None else list(dict.fromkeys(["prompt_id", *columns]))
        for segment in self._segments():
            for table in segment.tables(batch_rows, wanted):
                if self.shard is not None and segment.folder != self._own.folder:
                    table = table.filter(pa.array([p in self.shard for p in table["prompt_id"].to_pylist()]))
                if table.num_rows:
                    yield table

    def rows(self) -> list[Row]:
        """All rows in key order; they must fit in memory."""
        return sorted(self.iter_rows(), key=lambda r: (r.prompt_id, r.sample_index))  # type: ignore[attr-defined]

    def table(self) -> pa.Table:
        """All rows as an Arrow table in key order; they must fit in memory."""
        tables = [self.schema.empty_table(), *self.iter_tables()]
        return pa.concat_tables(tables).sort_by([("prompt_id", "ascending"), ("sample_index", "ascending")])

    def tail(self, batch_rows: int = BATCH_ROWS) -> Iterator[Iterator[pa.Table]]:
        """Endless: each step gives the tables of what was written since the step before, by whichever process."""
        tail = Tail(self.folder, self.schema)
        while True:
            yield tail.read([s.folder for s in self._segments()], batch_rows)

    def content_hash(self) -> str:
        """Equal content, equal hash: the sum of the rows' SHA-256 modulo 2^256, times left out, so that order, parts
        and shards do not matter and growth costs only what is new; a shard's is that of the rows in its own folder. It
        tells contents apart, not forgeries."""
        return hash_json(f"{self._digest:064x}")

    # -- writing
    def append(self, rows: Sequence[Row]) -> None:
        """Commit `rows` together: after this returns they survive a kill; a key that is there already is an error."""
        new: dict[Key, dict[str, Any]] = {}
        for row in rows:
            values = self._values(row)
            key = key_of(values)
            if key in self._keys or key in new:
                raise ValueError(f"{self.folder}: the row {key} is in the store already")
            if self.shard is not None and key[0] not in self.shard:
                raise ValueError(f"{self.folder}: the row {key} does not belong to shard {self.shard}")
            new[key] = values
        if not new:
            return
        self._own.write(list(new.values()))
        for key, values in new.items():
            self._keys.add(key)
            self._digest = (self._digest + row_digest(values, self._own.hashed)) % MODULUS
        if self._own.journal_bytes >= self.PART_BYTES or self._own.journal_rows >= self.PART_ROWS:
            self._own.seal()

    def _values(self, row: Row) -> dict[str, Any]:
        """A row as the plain values that come back from a part."""
        values = {k: v for k, v in to_dict(row).items() if k in self.schema.names}
        for name in self._floats:
            if values.get(name) is not None:
                values[name] = float(values[name])
        for name in self._strings:
            if isinstance(values.get(name), str):
                values[name] = _storable(values[name])
        return values

    def seal(self) -> None:
        """Turn the journal into a Parquet part, and without `shard` those that the shards have left too."""
        self._own.seal()
        if self.shard is None:
            for segment in self._segments()[1:]:
                if not segment.snapshot().rows:
                    continue
                segment.open()
                try:
                    segment.seal()
                finally:
                    segment.close()


def _storable(text: str) -> str:
    """The text; half a surrogate pair, which a server's JSON may hold and Parquet may not, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _conform(table: pa.Table, schema: pa.Schema, names: Sequence[str]) -> pa.Table:
    """The columns `names`, those that an older part lacks as nulls."""
    wanted = pa.schema([schema.field(n) for n in names])
    there = set(table.column_names)
    columns = [table[f.name] if f.name in there else pa.nulls(table.num_rows, f.type) for f in wanted]
    return pa.table(columns, schema=wanted)


def now() -> float:
    """Seconds since the epoch; the one clock of rows that carry times."""
    return time.time()
