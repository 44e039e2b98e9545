"""Grading a file: Parquet or JSON lines in, the same rows with verdict columns out.

The file is read and written in chunks, so memory does not grow with it. A graded chunk is committed to a folder beside
the output before the next one starts; the same command after a kill grades only the chunks that are missing. Chunks
are cut by row number, so the result does not depend on where a run was interrupted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openr1.errors import OutsideError, UserError, did_you_mean
from openr1.manifest import hash_file, write_json
from openr1.records import MASKED, Verdict
from openr1.store import FileLock
from openr1.verify.api import grade_with
from openr1.verify.base import Verifier, get_verifier
from openr1.verify.file_formats import CHUNK, INFO_COLUMNS, Lines, ParquetRows, Reader, Row, storable
from openr1.verify.interval import wilson

SLOWEST = 5
logger = logging.getLogger("openr1")


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
    `{n, by_status, accuracy, low, high, seconds, pairs_per_second, slowest}`: n is all completions; accuracy and its
    interval are over those that are not masked, null where there are none. Raises UserError for a missing file or
    column.
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
    reader: Reader = ParquetRows(source) if kind == "parquet" else Lines(source)
    grader.prepare()
    if (columns := reader.columns()) or not reader.empty():
        _check_columns(columns, source, grader, names)
    parts = target.with_name(target.name + ".parts")
    with _locked(target, source):
        _prepare(parts, {"input": hash_file(source), "verifier": [grader.name, grader.version], "columns": names})
        stats = _grade_chunks(reader, parts, grader, names, workers)
        reader.join([parts / f"{i:06d}.part" for i in range(len(stats))], target)
        shutil.rmtree(parts)
    with contextlib.suppress(OSError):
        target.with_name(f".{target.name}.lock").unlink()
    _say_masked(stats)
    return _summary(stats)


def _locked(target: Path, source: Path) -> FileLock:
    """The lock on an output, taken. A place that cannot be written is told by the name that the user gave."""
    if target.is_dir():
        raise UserError(f"grade: the output {target} is a folder; name a file with -o")
    try:
        return FileLock(target.with_name(f".{target.name}.lock"), f"grading {source.name}").acquire()
    except OSError as e:
        raise OutsideError(f"grade: {target} cannot be written ({e.strerror}); name another place with -o") from e


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
    if verifier.needs_info and not set(INFO_COLUMNS) & set(columns):
        raise UserError(
            f"grade: {source.name} has no column {INFO_COLUMNS[0]!r}, by which {verifier.name} grades; "
            f"{did_you_mean(INFO_COLUMNS[0], columns)}"
        )
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
    reader: Reader, parts: Path, verifier: Verifier, names: dict[str, str], workers: int | None
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
        "masked": _masked(verdicts),
        "slowest": [
            {"row": row, "ms": v.ms, "status": v.status, "extracted": storable((v.extracted or "")[:80])}
            for row, v in slowest
        ],
    }


def _masked(verdicts: list[tuple[int, Verdict]]) -> list[list[Any]]:
    """[reason, first row, rows] of what could not be graded, the most frequent first."""
    found: dict[str, list[Any]] = {}
    for row, verdict in verdicts:
        if verdict.status in MASKED:
            entry = found.setdefault(f"{verdict.status}: {(verdict.detail or verdict.decided_by)[:200]}", [row, 0])
            entry[1] += 1
    return [[why, *entry] for why, entry in sorted(found.items(), key=lambda item: -item[1][1])[:SLOWEST]]


def _say_masked(stats: list[Row]) -> None:
    """One line for each reason why rows are masked."""
    found: dict[str, list[int]] = {}
    for why, row, count in (entry for stat in stats for entry in stat.get("masked", [])):
        found.setdefault(why, [row, 0])[1] += count
    for why, (row, count) in sorted(found.items(), key=lambda item: -item[1][1])[:SLOWEST]:
        logger.warning("grade: %d masked, the first in row %d: %s", count, row, storable(why))


def _summary(stats: list[Row]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for found in stats:
        counts.update(found["by_status"])
    n = sum(found["n"] for found in stats)
    scored = n - sum(counts[status] for status in MASKED)
    seconds = sum(found["seconds"] for found in stats)
    accuracy = wilson(counts["correct"], scored) if scored else None
    slowest = sorted((item for found in stats for item in found["slowest"]), key=lambda item: -item["ms"])[:SLOWEST]
    return {
        "n": n,
        "by_status": dict(sorted(counts.items())),
        "accuracy": accuracy.value if accuracy else None,
        "low": accuracy.low if accuracy else None,
        "high": accuracy.high if accuracy else None,
        "seconds": round(seconds, 3),
        "pairs_per_second": round(n / seconds, 1) if seconds else None,
        "slowest": slowest,
    }
