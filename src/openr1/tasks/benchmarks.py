"""The questions of benchmarks as rows. They are looked for, in this order: in `eval/data` (what ships with openr1), in
the folder that OPENR1_DATA_DIR names, in the cache of the Hugging Face Hub, and, only where the caller allows it, on
the Hub. What is not to hand is said to be so, with how to get it; what came from the Hub, with its commit."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openr1.errors import OpenR1Error, OutsideError, UserError
from openr1.paths import data_dir
from openr1.tasks.definitions import BenchmarkColumns, BenchmarkSource, load_benchmark
from openr1.tasks.local import open_local
from openr1.tasks.programs import program_rows
from openr1.tasks.rows import Row, Unusable, text_of
from openr1.tasks.settings import HubSettings
from openr1.tasks.suites import suite_rows

SUFFIXES = (".jsonl", ".parquet", ".csv", ".tsv", ".json")
SHORT_QUESTION = 8  # words: below it the choices belong to what makes a question this question
TESTS = "_tests"  # NAME_tests is the dataset that holds the tests of NAME's programs


@dataclass(frozen=True, slots=True)
class NotAvailable:
    """The text of a benchmark is not to hand: why, and how to get it. `outside`: because network or Hub failed."""

    why: str
    how: str
    outside: bool = False

    def __str__(self) -> str:
        return f"{self.why}; {self.how}"


@dataclass(frozen=True, slots=True)
class BenchmarkRows:
    """The rows of a benchmark, and the commit of each dataset of the Hub that they are from."""

    rows: list[Row]
    commits: dict[str, str] = field(default_factory=dict)


def benchmark_texts(name: str, network: bool = False) -> list[tuple[str, str]] | NotAvailable:
    """(id, text) of every problem of a benchmark, or why it is not to hand and how to get it.

    `network`: ask the Hub where nothing is found on this machine. Raises UserError where there is no such benchmark,
    and for a file that is there and cannot be used.
    """
    found = benchmark_rows(name, network)
    if isinstance(found, NotAvailable):
        return found
    return list(_texts(name, found.rows, load_benchmark(name).columns))


def benchmark_rows(
    name: str, network: bool = False, revisions: Mapping[str, str] | None = None
) -> BenchmarkRows | NotAvailable:
    """The rows of a benchmark with the columns of its source; see `benchmark_texts`.

    `revisions`: by the name of a benchmark (or NAME_tests, for the tests of its programs) the commit that stands in
    for the revision of its definition.
    """
    benchmark = load_benchmark(name)
    if benchmark.generated is not None:
        return BenchmarkRows(list(suite_rows(benchmark.generated)))
    commits: dict[str, str] = {}
    found: dict[str, list[Row]] = {}
    sources = sources_of(name, revisions)
    for key in dict.fromkeys([name, *sources]):
        table = _rows_of(key, benchmark.columns, sources.get(key), network)
        if isinstance(table, NotAvailable):
            return table
        found[key], commit = table
        commits |= {key: commit} if commit else {}
    if benchmark.programs is None:
        return BenchmarkRows(found[name], commits)
    rows = program_rows(benchmark.programs, found[name], found.get(name + TESTS, []), benchmark.released)
    return BenchmarkRows(rows, commits)


def sources_of(name: str, revisions: Mapping[str, str] | None = None) -> dict[str, BenchmarkSource]:
    """The datasets of the Hub that a benchmark is made from: NAME, and NAME_tests where tests have their own."""
    benchmark = load_benchmark(name)
    found = {name: benchmark.source, name + TESTS: benchmark.tests}
    pinned = {key: {"revision": at} for key, at in (revisions or {}).items()}
    return {key: s.model_copy(update=pinned.get(key, {})) for key, s in found.items() if s is not None}


def _rows_of(
    name: str, columns: BenchmarkColumns, source: BenchmarkSource | None, network: bool
) -> tuple[list[Row], str | None] | NotAvailable:
    """The rows and, where they are from the Hub, the commit."""
    files = _files(name, source)
    if files:
        return [row for path in files for row in _read(path, columns)], _commit(files[0], source)
    if network and source is not None:
        return _from_hub(name, source)
    return _missing(name, source)


def _commit(path: Path, source: BenchmarkSource | None) -> str | None:
    """The commit of a file in the Hub's cache: the folder below `snapshots` of this dataset."""
    if source is None:
        return None
    repo = f"datasets--{source.id.replace('/', '--')}"
    parts = path.parts
    at = next((i for i in range(len(parts) - 2) if parts[i] == repo and parts[i + 1] == "snapshots"), None)
    return None if at is None else parts[at + 2]


def benchmark_files(name: str, revisions: Mapping[str, str] | None = None) -> list[Path]:
    """The files on this machine that hold a benchmark's problems; none where it is not to hand."""
    return [] if load_benchmark(name).generated is not None else _files(name, sources_of(name, revisions).get(name))


def _files(name: str, source: BenchmarkSource | None) -> list[Path]:
    return own_files(name) or ([] if source is None else _in_cache(source))


def own_files(name: str) -> list[Path]:
    """What ships with openr1 of a benchmark, or what OPENR1_DATA_DIR has of it."""
    shipped = data_dir("eval") / "data" / f"{name}.jsonl"
    if shipped.is_file():
        return [shipped]
    folder = os.environ.get("OPENR1_DATA_DIR")
    if folder:
        if not Path(folder).is_dir():
            raise UserError(f"OPENR1_DATA_DIR: {folder} is no folder; mend or unset it")
        return _in_folder(Path(folder), name)
    return []


def _in_folder(folder: Path, name: str) -> list[Path]:
    """NAME.jsonl and its like, or everything that can be read in the folder NAME."""
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return [folder / f"{name}{suffix}"]
    inside = folder / name
    return sorted(p for p in inside.rglob("*") if p.suffix in SUFFIXES and p.is_file()) if inside.is_dir() else []


def _in_cache(source: BenchmarkSource) -> list[Path]:
    """The data files of a dataset as the Hub's cache holds them; never asks the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            source.id,
            repo_type="dataset",
            revision=source.revision,
            local_files_only=True,
            allow_patterns=source.files,
        )
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return []
    found = (sorted(Path(folder).glob(pattern)) for pattern in source.files)
    return next((paths for paths in found if paths), [])


def _missing(name: str, source: BenchmarkSource | None) -> NotAvailable:
    put = f"put {name}.jsonl, .parquet or .csv into a folder and set OPENR1_DATA_DIR to it"
    if source is None:
        return NotAvailable("its file is not in eval/data", put)
    ask = "ask for access on its page, `hf auth login`, then " if source.gated else ""
    get = f"`hf download {source.id} --repo-type dataset --revision {source.revision}`"
    return NotAvailable(f"{source.id} is not in the Hub's cache", f"{ask}{get}, or {put}")


def _from_hub(name: str, source: BenchmarkSource) -> tuple[list[Row], str | None] | NotAvailable:
    from openr1.tasks.hub import open_hub

    settings = HubSettings(
        name="hub", id=source.id, config=source.config, split=source.split, revision=source.revision
    )
    try:
        found = open_hub(settings, [source.split])
    except OpenR1Error as e:
        why = str(e).splitlines()[0].partition("; ")[0]
        return NotAvailable(why, _missing(name, source).how, isinstance(e, OutsideError))
    return list(found[source.split].rows), found[source.split].identity.get("revision")


def _read(path: Path, columns: BenchmarkColumns) -> list[Row]:
    if path.suffix != ".tsv":
        return list(open_local(path).rows)
    with open(path, encoding="utf-8", newline="") as f:  # without a header: question, answer
        lines = [line for line in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE) if line]
    if not lines or min(map(len, lines)) < 2:
        raise UserError(f"{path}: not two columns, question and answer, with a tab between")
    return [{columns.question: line[0], str(columns.answer): line[1]} for line in lines]


def _texts(name: str, rows: Sequence[Row], columns: BenchmarkColumns) -> Iterable[tuple[str, str]]:
    if columns.question not in rows[0]:
        raise UserError(
            f"benchmark {name}: its file has no column {columns.question!r} (columns.question); "
            f"there is {', '.join(rows[0])}"
        )
    for number, row in enumerate(rows):
        key = str(row.get(columns.id)) if columns.id and row.get(columns.id) is not None else str(number)
        try:
            text = text_of(row[columns.question], columns.question) or ""
        except Unusable as e:
            raise UserError(f"benchmark {name}, row {number}: {e}") from e
        if len(text.split()) < SHORT_QUESTION:
            text = "\n".join([text, *_choices(row, columns)])
        yield key, text


def _choices(row: Mapping[str, Any], columns: BenchmarkColumns) -> list[str]:
    """The choices of a question, as they stand in the row; none for an open question."""
    if columns.choices is None:
        return []
    if isinstance(columns.choices, str):
        return [str(choice) for choice in row.get(columns.choices) or []]
    return [str(row[name]) for name in (columns.answer or "", *columns.choices) if row.get(name) is not None]
