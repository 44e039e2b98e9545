"""The formats of a file to grade, JSON lines and Parquet: chunks of rows in, the same with verdict columns out."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.records import Verdict

CHUNK = 2_000
COLUMNS = ("status", "score", "extracted", "decided_by", "ms", "verifier")
INFO_COLUMNS = ("verification_info", "info", "metadata")
Row = dict[str, Any]


def _text_of(value: Any) -> Any:
    """A completion as text, or as a list of texts; a conversation gives its last assistant turn."""
    if isinstance(value, dict) and "content" in value:
        return _content(value["content"])
    if isinstance(value, list):
        if value and all(isinstance(item, dict) for item in value):
            turns = [item.get("content") for item in value if item.get("role") == "assistant"]
            return _content(turns[-1]) if turns else None
        return [_text_of(item) for item in value]
    return value


def _content(value: Any) -> Any:
    """The text of a message; its parts of type `text` where it comes in parts."""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "".join(str(part.get("text") or "") for part in value if part.get("type") == "text")
    return value


def _info_of(value: Any) -> Any:
    if isinstance(value, str) and value[:1] == "{":
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, dict) else None


def _fields_of(row: Row, names: dict[str, str]) -> Row:
    info = next((found for name in INFO_COLUMNS if (found := _info_of(row.get(name)))), None)
    return {
        "gold": row.get(names["gold"]),
        "completion": _text_of(row.get(names["completion"])),
        "finish_reason": row.get(names["finish_reason"]),
        "info": info,
    }


def _column(graded: list[Verdict | list[Verdict]], name: str) -> list[Any]:
    return [[getattr(v, name) for v in e] if isinstance(e, list) else getattr(e, name) for e in graded]


class Reader:
    """One file format: chunks in, parts out, parts joined."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UserError(f"grade: there is no file {path}")

    def columns(self) -> list[str]:
        raise NotImplementedError

    def chunks(self) -> Iterator[Any]:
        raise NotImplementedError

    def empty(self) -> bool:
        """Whether the file has no rows at all."""
        return next(self.chunks(), None) is None

    def rows(self, chunk: Any, names: dict[str, str]) -> list[Row | None]:
        """The rows of a chunk; None for one that cannot be read."""
        raise NotImplementedError

    def write(self, chunk: Any, graded: list[Verdict | list[Verdict]], target: Path, names: dict[str, str]) -> None:
        raise NotImplementedError

    def join(self, parts: list[Path], target: Path) -> None:
        raise NotImplementedError


class Lines(Reader):
    """JSON lines. A line that is no JSON object keeps its place and text and is masked."""

    def columns(self) -> list[str]:
        names: dict[str, None] = {}
        with self.path.open("rb") as handle:
            for line in itertools.islice(handle, CHUNK):
                row = self._parse(line)
                if row is not None:
                    names |= dict.fromkeys(row)
        if not names and not self.empty():
            raise UserError(f"grade: none of the first {CHUNK} lines of {self.path} is a JSON object")
        return list(names)

    @staticmethod
    def _parse(line: bytes) -> Row | None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return row if isinstance(row, dict) else None

    def chunks(self) -> Iterator[list[bytes]]:
        with self.path.open("rb") as handle:
            lines = (line for line in handle if line.strip())
            while chunk := list(itertools.islice(lines, CHUNK)):
                yield chunk

    def rows(self, chunk: list[bytes], names: dict[str, str]) -> list[Row | None]:
        parsed = [self._parse(line) for line in chunk]
        return [None if row is None else _fields_of(row, names) for row in parsed]

    def write(
        self, chunk: list[bytes], graded: list[Verdict | list[Verdict]], target: Path, names: dict[str, str]
    ) -> None:
        columns = {name: _column(graded, name) for name in COLUMNS}
        aside = target.with_suffix(".tmp")
        with aside.open("w", encoding="utf-8") as handle:
            for i, line in enumerate(chunk):
                row = self._parse(line)
                verdict = {name: column[i] for name, column in columns.items()}
                if row is None:
                    row = {"malformed_line": line.decode("utf-8", "replace").rstrip("\r\n")}
                handle.write(json.dumps({**row, **verdict}) + "\n")
        os.replace(aside, target)

    def join(self, parts: list[Path], target: Path) -> None:
        aside = target.with_name(f".{target.name}.tmp")
        with aside.open("wb") as out:
            for part in parts:
                with part.open("rb") as handle:
                    shutil.copyfileobj(handle, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, target)


class ParquetRows(Reader):
    """Parquet, a record batch at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self.file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"grade: {path} cannot be read as Parquet: {error}") from error

    def columns(self) -> list[str]:
        return list(self.file.schema_arrow.names)

    def chunks(self) -> Iterator[Any]:
        pending: list[Any] = []
        count = 0
        for batch in self.file.iter_batches(batch_size=CHUNK):  # a batch may end early at a row group's end
            while batch.num_rows:
                piece = batch.slice(0, CHUNK - count)
                batch = batch.slice(piece.num_rows)
                pending.append(piece)
                count += piece.num_rows
                if count == CHUNK:
                    yield pending
                    pending, count = [], 0
        if pending:
            yield pending

    def _several(self, column: str) -> bool:
        """Whether a column holds lists of completions: lists of anything but messages."""
        import pyarrow as pa

        kind = self.file.schema_arrow.field(column).type
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and not pa.types.is_struct(kind.value_type)

    def rows(self, chunk: list[Any], names: dict[str, str]) -> list[Row | None]:
        wanted = [name for name in (*names.values(), *INFO_COLUMNS) if name in self.columns()]
        rows: list[Row | None] = [
            _fields_of(row, names) for piece in chunk for row in piece.select(wanted).to_pylist()
        ]
        if not self._several(names["completion"]):  # a conversation without a message is one row, not no rows
            rows = [{**row, "completion": None} if row and row["completion"] == [] else row for row in rows]
        return rows

    def write(
        self, chunk: list[Any], graded: list[Verdict | list[Verdict]], target: Path, names: dict[str, str]
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_batches(chunk)
        lists = self._several(names["completion"]) or any(isinstance(entry, list) for entry in graded)
        for name in COLUMNS:
            kind = pa.float64() if name in ("score", "ms") else pa.string()
            values = _column(graded, name)
            if lists:
                values = [value if isinstance(value, list) else [value] for value in values]
                kind = pa.list_(kind)
            if kind in (pa.string(), pa.list_(pa.string())):
                values = [storable(value) for value in values]
            array = pa.array(values, type=kind)
            position = table.column_names.index(name) if name in table.column_names else -1
            table = table.set_column(position, name, array) if position >= 0 else table.append_column(name, array)
        aside = target.with_suffix(".tmp")
        pq.write_table(table, aside)
        os.replace(aside, target)

    def join(self, parts: list[Path], target: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        aside = target.with_name(f".{target.name}.tmp")
        schema = pq.read_schema(parts[0]) if parts else self._empty_schema(pa)
        with pq.ParquetWriter(aside, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, schema=schema, partitioning=None))
        os.replace(aside, target)

    def _empty_schema(self, pa: Any) -> Any:
        schema = self.file.schema_arrow
        for name in COLUMNS:
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.float64() if name in ("score", "ms") else pa.string()))
        return schema


def storable(value: Any) -> Any:
    """Text that UTF-8 can hold: a lone surrogate becomes a question mark."""
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
