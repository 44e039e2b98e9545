"""Questions from files: Parquet, JSONL (or a JSON list), CSV. A broken line is named with its file and number."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openr1.errors import UserError
from openr1.manifest import hash_file
from openr1.tasks.rows import Row, Source
from openr1.tasks.settings import LocalSettings

SAMPLE = Path(__file__).parent / "samples" / "word_problems.jsonl"
KINDS = ".parquet, .jsonl, .json or .csv"


def local_files(settings: LocalSettings) -> dict[str, Path]:
    """The files that the task reads, by source name (a single file is the source `data`)."""
    if settings.path is None:
        return {"data": SAMPLE}
    named = settings.path if isinstance(settings.path, dict) else {"data": settings.path}
    return {name: Path(path).expanduser() for name, path in named.items()}


def open_local(path: Path) -> Source:
    """Read one file whole.

    Raises:
        UserError: no such file, another kind of file, an empty one, or a line that is broken (each such line named).
    """
    if not path.is_file():
        what = "is a folder; name the file in it" if path.is_dir() else "no such file; mend task.path"
        raise UserError(f"{path}: {what}")
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: cannot read files of kind {path.suffix or '(none)'!r}; give {KINDS}")
    columns, rows = reader(path)
    if not rows:
        raise UserError(f"{path}: holds no rows ({path.stat().st_size} bytes); give a file with at least one")
    return Source(where=str(path), columns=columns, rows=rows, identity={"file": path.name, "sha256": hash_file(path)})


def _parquet(path: Path) -> tuple[list[str], list[Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as e:
        raise UserError(f"{path}: not a readable Parquet file ({str(e).splitlines()[0]})") from e
    return table.column_names, table.to_pylist()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines; one that is not UTF-8 is an error with its number."""
    with open(path, "rb") as f:
        for number, raw in enumerate(f, start=1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as e:
                raise UserError(
                    f"{path}:{number}: byte {e.start} of the line is not UTF-8 ({raw[e.start : e.start + 1]!r}); "
                    "save the file as UTF-8"
                ) from None


def _jsonl(path: Path) -> tuple[list[str], list[Row]]:
    rows: list[Row] = []
    problems: list[str] = []
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:
            problems.append(f"{path}:{number}: not JSON ({_short(e)}): {line.strip()[:60]!r}")
            continue
        if not isinstance(row, dict):
            problems.append(f"{path}:{number}: a JSON {type(row).__name__}, not an object: {line.strip()[:60]!r}")
            continue
        rows.append(row)
    if problems:
        more = [f"{path}: and {len(problems) - 10} more broken lines"] if len(problems) > 10 else []
        raise UserError(*problems[:10], *more)
    return _names(rows), rows


def _json(path: Path) -> tuple[list[str], list[Row]]:
    try:
        rows = json.loads("".join(line for _, line in _lines(path)) or "[]")
    except ValueError as e:
        raise UserError(f"{path}: not JSON ({_short(e)}); one object a line belongs in a .jsonl file") from e
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise UserError(f"{path}: holds a JSON {type(rows).__name__}, not a list of objects")
    return _names(rows), rows


def _csv(path: Path) -> tuple[list[str], list[Row]]:
    reader = csv.reader(line for _, line in _lines(path))
    rows: list[Row] = []
    try:
        names = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                raise UserError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(names)}")
            rows.append({name: cell if cell != "" else None for name, cell in zip(names, cells, strict=True)})
    except csv.Error as e:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({e})") from e
    return names, rows


def _names(rows: list[Row]) -> list[str]:
    """Every key of every row, in the order of first sight."""
    seen: dict[str, Any] = {}
    for row in rows:
        seen |= dict.fromkeys(row)
    return list(seen)


def _short(error: Exception) -> str:
    return str(error).split(": line ")[0]
