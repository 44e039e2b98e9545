"""Tables divided by number into files on disk, so that each part can be handled in memory by itself."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

FLUSH_BYTES = 128 << 20
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


class Spill:
    """Rows of one schema, part = number // `rows_per_part`; a part's rows come back in the order they were put in."""

    def __init__(self, folder: Path, rows_per_part: int) -> None:
        self.folder, self.rows_per_part = folder, rows_per_part
        self.waiting: dict[int, list[pa.Table]] = defaultdict(list)
        self.bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, numbers: np.ndarray, table: pa.Table) -> None:
        """Put the rows of `table` into the parts that `numbers` [rows] say."""
        if not len(numbers):
            return
        parts = numbers // self.rows_per_part
        if np.any(parts[1:] < parts[:-1]):
            order = np.argsort(parts, kind="stable")
            parts, table = parts[order], table.take(pa.array(order))
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(parts)], strict=True):
            self.waiting[int(parts[start])].append(table.slice(start, stop - start))
        self.bytes += table.nbytes
        if self.bytes > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        for part, tables in self.waiting.items():
            with open(self._path(part), "ab") as f, pa.ipc.new_stream(f, tables[0].schema, options=_LZ4) as stream:
                for table in tables:
                    stream.write_table(table)
        self.waiting.clear()
        self.bytes = 0

    def take(self, part: int) -> pa.Table | None:
        """Everything of a part, which is then gone; None where nothing was put."""
        if self.waiting:
            self.flush()
        path = self._path(part)
        if not path.exists():
            return None
        tables = []
        with open(path, "rb") as f:
            size = path.stat().st_size
            while f.tell() < size:
                tables.append(pa.ipc.open_stream(f).read_all())
        path.unlink()
        return pa.concat_tables(tables)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:06d}.arrows"
