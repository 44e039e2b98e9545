"""Grading a file: Parquet or JSON lines in, the same rows with verdict columns out.

The file is read and written in chunks, so memory does not grow with it. A graded chunk is committed to a folder beside
the output before the next one starts; the same command after a kill grades only the chunks that are missing. Chunks
are cut by row number, so the result does not depend on where a run was interrupted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openr1.errors import UserError, did_you_mean
from openr1.manifest import hash_file, write_json
from openr1.records import Verdict
from openr1.store import FileLock
from openr1.verify.api import grade_with
from openr1.verify.base import Verifier, get_verifier
from openr1.verify.interval import wilson

CHUNK = 2_000
COLUMNS = ("status", "score", "extracted", "decided_by", "ms", "verifier")
INFO_COLUMNS = ("verification_info", "info", "metadata")
SLOWEST = 5
Row = dict[str, Any]


def grade_file(
    path: str | Path,
    gold: str = "answer",
    completion: str = "completion",
    finish_reason: str = "finish_reason",
    verifier: str = "math",
    output: str | Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Grade every row of a Parquet or JSONL file and write `<name>.graded.<ext>` beside it (or `output`).

    A completion is a text, a list of messages (the last assistant one counts), or a list of texts (k completions: the
    verdict columns become lists). Columns of the verdict that the input already has are replaced. Returns the summary
    `{n, by_status, accuracy, low, high, seconds, pairs_per_second, slowest}`; accuracy is over the rows that are not
    masked. Raises UserError for a missing file or column.
    """
    source = Path(path)
    kind = _kind(source)
    target = output_path(source, output)
    if _kind(target) != kind:
        raise UserError(
            f"grade: the output {target.name} is of another format than {source.name}; use {source.suffix}"
        )
    if target.resolve() == source.resolve():
        raise UserError(f"grade: the output is the input {source}; choose another name with -o")
    grader = get_verifier(verifier)
    names = {"gold": gold, "completion": completion, "finish_reason": finish_reason}
    reader: _Reader = _Parquet(source) if kind == "parquet" else _Lines(source)
    if (columns := reader.columns()) or not reader.empty():
        _check_columns(columns, source, grader, names)
    parts = target.with_name(target.name + ".parts")
    with FileLock(target.with_name(f".{target.name}.lock"), f"grading {source.name}"):
        _prepare(parts, {"input": hash_file(source), "verifier": [grader.name, grader.version], "columns": names})
        stats = _grade_chunks(reader, parts, grader, names, workers)
        reader.join([parts / f"{i:06d}.part" for i in range(len(stats))], target)
        shutil.rmtree(parts)
    with contextlib.suppress(OSError):
        target.with_name(f".{target.name}.lock").unlink()
    return _summary(stats)


def output_path(path: str | Path, output: str | Path | None = None) -> Path:
    """Where `grade_file` writes: `output`, or `<name>.graded.<ext>` beside the input."""
    source = Path(path)
    return Path(output) if output is not None else source.with_name(f"{source.stem}.graded{source.suffix}")


def _kind(path: Path) -> str:
    kinds = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    if path.suffix not in kinds:
        raise UserError(f"grade: {path.name} is neither .parquet nor .jsonl")
    return kinds[path.suffix]


def _check_columns(columns: Sequence[str], source: Path, verifier: Verifier, names: dict[str, str]) -> None:
    needed = [names["completion"]] + ([names["gold"]] if verifier.needs_gold else [])
    if names["finish_reason"] != "finish_reason":
        needed.append(names["finish_reason"])
    missing = [name for name in needed if name not in columns]
    flags = {names["completion"]: "--completion", names["gold"]: "--gold", names["finish_reason"]: "--finish-reason"}
    if missing:
        raise UserError(
            *(
                f"grade: {source.name} has no column {name!r}: {did_you_mean(name, columns)} ({flags[name]} names it)"
                for name in missing
            )
        )


def _prepare(parts: Path, key: dict[str, Any]) -> None:
    """The folder of finished chunks; what another input or setting left there is thrown away."""
    marker = parts / "key.json"
    if marker.exists() and json.loads(marker.read_text()) == key:
        return
    if parts.exists():
        shutil.rmtree(parts)
    parts.mkdir(parents=True)
    write_json(marker, key)


def _grade_chunks(
    reader: _Reader, parts: Path, verifier: Verifier, names: dict[str, str], workers: int | None
) -> list[Row]:
    stats = []
    for index, chunk in enumerate(reader.chunks()):
        record = parts / f"{index:06d}.json"
        if record.exists():
            stats.append(json.loads(record.read_text()))
            continue
        start = time.perf_counter()
        rows = reader.rows(chunk, names)
        graded = [
            entry if row else _malformed(verifier)
            for row, entry in zip(rows, _grade_rows([row or _NOTHING for row in rows], verifier, workers), strict=True)
        ]
        reader.write(chunk, graded, parts / f"{index:06d}.part", names)
        found = _statistics(graded, index * CHUNK, time.perf_counter() - start)
        write_json(record, found)  # the commit: a part without its record is graded again
        stats.append(found)
    return stats


_NOTHING: Row = {"gold": None, "completion": None, "finish_reason": None, "info": None}


def _malformed(verifier: Verifier) -> Verdict:
    """The verdict on a row that could not be read."""
    return Verdict("infra_error", decided_by="file", verifier=verifier.name, version=verifier.version)


def _grade_rows(rows: list[Row], verifier: Verifier, workers: int | None) -> list[Verdict | list[Verdict]]:
    """Verdicts a row; a row with a list of completions gets a list."""
    flat: list[tuple[Any, Any, Any, Any]] = []
    shape: list[int | None] = []
    for row in rows:
        completions = row["completion"]
        reasons = row["finish_reason"]
        if isinstance(completions, list):
            each = (
                reasons
                if isinstance(reasons, list) and len(reasons) == len(completions)
                else [reasons] * len(completions)
            )
            shape.append(len(completions))
            flat += [(row["gold"], text, row["info"], reason) for text, reason in zip(completions, each, strict=True)]
        else:
            shape.append(None)
            flat.append((row["gold"], completions, row["info"], reasons))
    golds, texts, infos, finished = ([row[k] for row in flat] for k in range(4))
    finished = [reason if isinstance(reason, str) else None for reason in finished]
    graded = iter(grade_with([verifier] * len(flat), golds, texts, infos, finished, workers=workers))
    return [next(graded) if size is None else list(itertools.islice(graded, size)) for size in shape]


def _statistics(graded: list[Verdict | list[Verdict]], first: int, seconds: float) -> Row:
    verdicts = [
        (first + i, v) for i, entry in enumerate(graded) for v in (entry if isinstance(entry, list) else [entry])
    ]
    slowest = sorted(verdicts, key=lambda item: -item[1].ms)[:SLOWEST]
    return {
        "n": len(verdicts),
        "by_status": dict(Counter(v.status for _, v in verdicts)),
        "seconds": round(seconds, 3),
        "slowest": [
            {"row": row, "ms": v.ms, "status": v.status, "extracted": _storable((v.extracted or "")[:80])}
            for row, v in slowest
        ],
    }


def _summary(stats: list[Row]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for found in stats:
        counts.update(found["by_status"])
    n = sum(found["n"] for found in stats)
    scored = n - counts["bad_gold"] - counts["infra_error"]
    seconds = sum(found["seconds"] for found in stats)
    accuracy = wilson(counts["correct"], scored) if scored else None
    slowest = sorted((item for found in stats for item in found["slowest"]), key=lambda item: -item["ms"])[:SLOWEST]
    return {
        "n": n,
        "by_status": dict(sorted(counts.items())),
        "accuracy": accuracy.value if accuracy else None,
        "low": accuracy.low if accuracy else 0.0,
        "high": accuracy.high if accuracy else 1.0,
        "seconds": round(seconds, 3),
        "pairs_per_second": round(n / seconds, 1) if seconds else None,
        "slowest": slowest,
    }


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


class _Reader:
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


class _Lines(_Reader):
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


class _Parquet(_Reader):
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
                values = [_storable(value) for value in values]
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


def _storable(value: Any) -> Any:
    """Text that UTF-8 can hold: a lone surrogate becomes a question mark."""
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
