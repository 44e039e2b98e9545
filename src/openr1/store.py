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
import weakref
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

    TRIES, PAUSE = 5, 0.05  # somebody who only asks `is_locked` holds it for an instant
    _held: weakref.WeakSet[FileLock] = weakref.WeakSet()

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self._fd: int | None = None

    def acquire(self) -> FileLock:
        """Take the lock at once, or say who holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        if not self._try(fd):
            holder = os.read(fd, 200).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise UserError(f"{self.what} is in use by {holder}; wait for it to end, or stop it")
        os.ftruncate(fd, 0)
        os.write(fd, f"process {os.getpid()} on {os.uname().nodename}".encode())
        self._fd = fd
        self._held.add(self)
        return self

    def _try(self, fd: int) -> bool:
        for attempt in range(self.TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if attempt + 1 < self.TRIES:
                    time.sleep(self.PAUSE)
        return False

    def release(self) -> None:
        self._held.discard(self)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @classmethod
    def _after_fork(cls) -> None:
        """A forked child (a worker pool's) must not keep the lock of a parent that is killed."""
        for lock in list(cls._held):
            lock.release()

    def __enter__(self) -> FileLock:
        return self.acquire() if self._fd is None else self

    def __exit__(self, *_: object) -> None:
        self.release()


os.register_at_fork(after_in_child=FileLock._after_fork)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
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
            self._journal = open(self.folder / JOURNAL, "ab", buffering=0)  # noqa: SIM115
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
        # the journal first: a writer that seals in between moves its rows to a part, which is read after
        journal = {self._key(r): r for r in self._read_journal()[0]}
        self._rows = {self._key(r): r for r in self._read_parts()} | journal
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
        lines = data.splitlines(keepends=True)
        for i, line in enumerate(lines):
            commit = _commit(line)
            if commit is None:
                if any(_commit(later) for later in lines[i + 1 :]):
                    raise UserError(
                        f"{self.folder / JOURNAL}: line {i + 1} is damaged and whole commits follow it, which "
                        "no crash of ours does; restore the file, or remove that line to have its rows asked for again"
                    )
                break
            rows.extend(commit)
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
        start = os.fstat(self._journal.fileno()).st_size
        try:
            left = memoryview(line.encode())
            while left:
                left = left[self._journal.write(left) :]
            os.fsync(self._journal.fileno())
        except BaseException as e:
            os.truncate(self.folder / JOURNAL, start)
            if isinstance(e, OSError):
                raise OutsideError(
                    f"cannot write to {self.folder}: {e.strerror}; what was committed before is kept"
                ) from e
            raise
        self._rows |= new

    def seal(self) -> None:
        """Turn the journal into a Parquet part. A kill in between: the next opening drops the journal."""
        rows, _ = self._read_journal()
        if not rows:
            return
        number = len(list(self.folder.glob("part-*.parquet")))
        part = self.folder / f"part-{number:05d}.parquet"
        aside = self.folder / f".{part.name}.tmp"
        try:
            with open(aside, "wb") as f:
                pq.write_table(to_table(sorted(rows, key=self._key), self.schema), f)
                f.flush()
                os.fsync(f.fileno())
            os.replace(aside, part)
        except OSError as e:
            aside.unlink(missing_ok=True)
            raise OutsideError(f"cannot write {part}: {e.strerror or e}; its rows are kept in the journal") from e
        self._journal.close()
        (self.folder / JOURNAL).unlink()
        self._journal = open(self.folder / JOURNAL, "ab", buffering=0)  # noqa: SIM115


def _commit(line: bytes) -> list[dict[str, Any]] | None:
    """The rows of one journal line, or None where the line is torn or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        rows = json.loads(line)
    except ValueError:
        return None
    return rows if isinstance(rows, list) else None


def now() -> float:
    """Seconds since the epoch; the one clock of rows that carry times."""
    return time.time()
