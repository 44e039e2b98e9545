"""The files of a dataset: outputs of a stage become configs and splits, in shards of at most 500 MB.

A curate stage's `sft`, `rl` and `all` are the configs of these names, and its parts (`sft_val`) are splits of them;
`default` is drawn from `all`: the problems of which at least one generation was kept, as in OpenR1-Math-220k. The
prompts of a task are the splits of `default`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openr1.errors import UserError
from openr1.hub.select import publishable
from openr1.report.load import Run, Stage

SHARD_BYTES = 500_000_000
LINKED_FROM = 64_000_000  # bytes; a smaller file is copied, so that one may edit it without touching the run
BATCH_ROWS = 1_024
CONFIGS = ("default", "all", "sft", "rl")

Splits = dict[str, int]


def write_dataset(
    run: Run, stage: Stage, folder: Path, prefix: str = "", only: Collection[str] = (), most: int = SHARD_BYTES
) -> dict[str, Splits]:
    """<config>/<split>-00000-of-0000N.parquet for every output (with `only`, for those) that has rows; rows by config
    and split."""
    found: dict[str, Splits] = {}
    for name, output in publishable(stage, "dataset", only).items():
        parts = sorted((stage.folder / str(output["path"])).glob("*.parquet"))
        if not parts:
            raise UserError(f"{stage.folder / str(output['path'])}: holds no Parquet file; run {stage.name} again")
        config, split = place_of(name, str(output["kind"]))
        _write(found, folder, prefix, config, split, parts, most, kept_only=False)
        if config == "all":
            _write(found, folder, prefix, "default", split, parts, most, kept_only=True)
    if not found:
        raise UserError(f"stage {stage.name} of run {run.name} has no rows to publish")
    return {name: found[name] for name in sorted(found, key=lambda n: _order(n.removeprefix(prefix)))}


def place_of(name: str, kind: str) -> tuple[str, str]:
    """(config, split) of an output: `sft` is sft/train, `sft_val` is sft/val; prompts are splits of `default`."""
    if kind == "prompts":
        return "default", name
    return kind, name.removeprefix(kind).removeprefix("_") or "train"


def _order(config: str) -> int:
    return CONFIGS.index(config) if config in CONFIGS else len(CONFIGS)


def _write(
    found: dict[str, Splits],
    folder: Path,
    prefix: str,
    config: str,
    split: str,
    parts: Sequence[Path],
    most: int,
    kept_only: bool,
) -> None:
    name = prefix + config
    rows = write_shards(parts, folder / name, split, most, kept_only)
    if rows:  # a split without rows cannot be loaded
        found.setdefault(name, {})[split] = rows


def write_shards(parts: Sequence[Path], folder: Path, split: str, most: int, kept_only: bool = False) -> int:
    """The rows of `parts` as shards of at most `most` bytes; a file that fits goes as it is. Returns rows."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    rows = 0
    for part in parts:
        count = pq.ParquetFile(part).metadata.num_rows
        if count == 0:
            continue
        if part.stat().st_size <= most and not kept_only:
            files.append(folder / f".{len(files)}.parquet")
            link(part, files[-1])
            rows += count
            continue
        pieces = -(-part.stat().st_size // most)
        for table in _tables(part, -(-count // pieces), kept_only):
            _save(table, folder, files, most)
            rows += table.num_rows
    for i, file in enumerate(files):
        os.replace(file, folder / f"{split}-{i:05d}-of-{len(files):05d}.parquet")
    if not any(folder.iterdir()):
        folder.rmdir()
    return rows


def _save(table: pa.Table, folder: Path, files: list[Path], most: int) -> None:
    """One file of `table`, or two of its halves where it comes out too large."""
    file = folder / f".{len(files)}.parquet"
    pq.write_table(table, file, row_group_size=BATCH_ROWS)
    if file.stat().st_size <= most or table.num_rows == 1:
        files.append(file)
        return
    half = table.num_rows // 2
    _save(table.slice(0, half), folder, files, most)
    _save(table.slice(half), folder, files, most)


def _tables(part: Path, size: int, kept_only: bool) -> Iterator[pa.Table]:
    """Tables of at most `size` rows; with `kept_only`, those that have a generation in the SFT set."""
    with pq.ParquetFile(part) as file:
        held: list[pa.Table] = []
        for batch in file.iter_batches(min(size, BATCH_ROWS)):
            table = pa.Table.from_batches([batch])
            held.append(table.filter(_has_kept(table)) if kept_only else table)
            if sum(t.num_rows for t in held) >= size:
                whole = pa.concat_tables(held)
                yield whole.slice(0, size)
                held = [whole.slice(size)]
        rest = pa.concat_tables(held) if held else None
        if rest is not None and rest.num_rows:
            yield rest


def _has_kept(table: pa.Table) -> pa.Array:
    """Whether a row's `dropped_by` holds a null: a generation that no step dropped."""
    lists = table["dropped_by"].combine_chunks()
    owners = pc.list_parent_indices(lists)
    kept = owners.filter(pc.is_null(pc.list_flatten(lists)))
    return pc.is_in(pa.array(range(table.num_rows), owners.type), value_set=kept)


def link(source: Path, target: Path) -> None:
    """The same bytes under another name, which outlast the original's; a large file is linked where that can be."""
    if source.stat().st_size >= LINKED_FROM:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def config_entries(configs: Mapping[str, Splits]) -> list[dict[str, Any]]:
    """The `configs` of a card's front matter; the first one is the default."""
    return [
        {
            "config_name": name,
            "data_files": [{"split": s, "path": f"{name}/{s}-*.parquet"} for s in splits],
        }
        | ({"default": True} if i == 0 else {})
        for i, (name, splits) in enumerate(configs.items())
    ]
