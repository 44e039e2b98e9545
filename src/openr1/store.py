"""The append-only store of completions or verdicts: every commit is atomic, every key is in it exactly once.

A store is a folder. New rows go to a journal, one JSON line a commit, flushed to disk before `append` returns, so a
killed process loses at most the commit in flight; a torn last line is cut off when the store is opened again. `seal`
turns the journal into a Parquet part. One writer at a time, held by a lock that dies with its process.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.errors import OutsideError, UserError
from openr1.manifest import differences, hash_json, write_json
from openr1.records import TIME_COLUMNS, from_table, to_dict, to_table

Row = TypeVar("Row")
Key = tuple[Any, ...]

JOURNAL = "journal.jsonl"
IDENTITY = "identity.json"


class FileLock:
    """An exclusive lock on a file, released by the kernel when its holder ends, however it ends."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self._fd: int | None = None

    def acquire(self) -> FileLock:
        """Take the lock at once, or say who holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 200).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise UserError(f"{self.what} is in use by {holder}; wait for it to end, or stop it") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"process {os.getpid()} on {os.uname().nodename}".encode())
        self._fd = fd
        return self

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> FileLock:
        return self.acquire() if self._fd is None else self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


class AppendStore(Generic[Row]):
    """Rows of one record type, keyed by `key`, in a folder.

    `identity` is what all rows have in common (model revision, sampling, template); opening a store begun with
    another identity is refused with the difference.
    """

    def __init__(
        self,
        folder: Path,
        kind: type[Row],
        schema: pa.Schema,
        identity: dict[str, Any],
        key: Sequence[str] = ("prompt_id", "sample_index"),
    ) -> None:
        self.folder, self.kind, self.schema, self.identity = folder, kind, schema, identity
        self.key_columns = list(key)
        self._rows: dict[Key, dict[str, Any]] = {}
        self._journal: Any = None
        self._lock = FileLock(folder / ".lock", f"the store {folder}")

    # -- opening
    def __enter__(self) -> AppendStore[Row]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._check_identity()
            self._recover()
            self._journal = open(self.folder / JOURNAL, "ab")  # noqa: SIM115
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._lock.release()

    def load(self) -> AppendStore[Row]:
        """Read what is there without taking the writer's lock."""
        self._rows = {self._key(r): r for r in self._read_parts()} | {self._key(r): r for r in self._read_journal()[0]}
        return self

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

    def _recover(self) -> None:
        """Load the rows; cut a torn last line off the journal; drop a journal that has been sealed already."""
        parts = {self._key(r): r for r in self._read_parts()}
        rows, good = self._read_journal()
        journal = self.folder / JOURNAL
        if rows and all(self._key(r) in parts for r in rows):
            journal.unlink()
            rows = []
        elif journal.exists() and journal.stat().st_size > good:
            os.truncate(journal, good)
        self._rows = parts | {self._key(r): r for r in rows}
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def _read_parts(self) -> Iterator[dict[str, Any]]:
        for part in sorted(self.folder.glob("part-*.parquet")):
            yield from pq.read_table(part).to_pylist()

    def _read_journal(self) -> tuple[list[dict[str, Any]], int]:
        """The rows of every whole commit, and the length in bytes of the good prefix."""
        rows: list[dict[str, Any]] = []
        good = 0
        try:
            data = (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return rows, 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                rows.extend(json.loads(line))
            except ValueError:
                break
            good += len(line)
        return rows, good

    # -- reading
    def _key(self, row: dict[str, Any]) -> Key:
        return tuple(row[c] for c in self.key_columns)

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def keys(self) -> set[Key]:
        return set(self._rows)

    def rows(self) -> list[Row]:
        """All rows in key order."""
        return from_table(self.table(), self.kind)

    def table(self) -> pa.Table:
        """All rows as an Arrow table in key order."""
        return to_table((self._rows[k] for k in sorted(self._rows)), self.schema)

    def content_hash(self) -> str:
        """SHA-256 over the rows in key order, times left out: equal stores of equal content have equal hashes."""
        names = [n for n in self.schema.names if n not in TIME_COLUMNS]
        return hash_json([[self._rows[k].get(n) for n in names] for k in sorted(self._rows)])

    # -- writing
    def append(self, rows: Sequence[Row]) -> None:
        """Commit `rows` together: after this returns they survive a kill; a key that is there already is an error."""
        new: dict[Key, dict[str, Any]] = {}
        for row in rows:
            values = {k: v for k, v in to_dict(row).items() if k in self.schema.names}
            key = self._key(values)
            if key in self._rows or key in new:
                raise ValueError(f"{self.folder}: the row {key} is in the store already")
            new[key] = values
        self.append_keyed(new)

    def append_keyed(self, new: dict[Key, dict[str, Any]]) -> None:
        """`append` for rows whose key columns are not fields of the record."""
        if not new:
            return
        line = json.dumps(list(new.values()), ensure_ascii=True, separators=(",", ":")) + "\n"
        start = self._journal.tell()
        try:
            self._journal.write(line.encode())
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as e:
            os.truncate(self.folder / JOURNAL, start)
            raise OutsideError(
                f"cannot write to {self.folder}: {e.strerror}; what was committed before is kept"
            ) from e
        self._rows |= new

    def seal(self) -> None:
        """Turn the journal into a Parquet part. A kill in between: the next opening drops the journal."""
        rows, _ = self._read_journal()
        if not rows:
            return
        number = len(list(self.folder.glob("part-*.parquet")))
        part = self.folder / f"part-{number:05d}.parquet"
        aside = self.folder / f".{part.name}.tmp"
        pq.write_table(to_table(sorted(rows, key=self._key), self.schema), aside)
        os.replace(aside, part)
        self._journal.close()
        (self.folder / JOURNAL).unlink()
        self._journal = open(self.folder / JOURNAL, "ab")  # noqa: SIM115


def now() -> float:
    """Seconds since the epoch; the one clock of rows that carry times."""
    return time.time()
