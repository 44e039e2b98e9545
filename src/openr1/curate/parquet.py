"""Folders of Parquet written a piece at a time: what the pieces were changes no byte of the files."""

from __future__ import annotations

import random
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openr1.curate.spill import Spill

ROWS_PER_FILE = 500_000
SHUFFLE_ROWS = 8_192  # in memory at a time, fewer where the rows are long
SHUFFLE_BYTES = 32 << 20


class RowFolder:
    """Files of at most `ROWS_PER_FILE` rows in groups of `rows_per_group`; a folder without rows has an empty file."""

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_group: int = 1_024) -> None:
        self.folder, self.schema, self.rows_per_group = folder, schema, rows_per_group
        self.rows = 0
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self._file: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: pa.Table) -> None:
        """Add rows at the end."""
        self._waiting.append(table.select(self.schema.names).cast(self.schema))
        self._n_waiting += table.num_rows
        if self._n_waiting >= self.rows_per_group:
            whole = pa.concat_tables(self._waiting)
            groups = self._n_waiting // self.rows_per_group * self.rows_per_group
            for start in range(0, groups, self.rows_per_group):
                self._group(whole.slice(start, self.rows_per_group))
            self._waiting, self._n_waiting = [whole.slice(groups)], self._n_waiting - groups

    def close(self) -> int:
        """Write what is left; returns how many rows there are in all."""
        if self._n_waiting or not self.rows:
            self._group(pa.concat_tables([self.schema.empty_table(), *self._waiting]))
        self._file.close()
        return self.rows

    def _group(self, rows: pa.Table) -> None:
        number, inside = divmod(self.rows, ROWS_PER_FILE)
        if self._file is not None and not inside:
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = pq.ParquetWriter(self.folder / f"data-{number:05d}.parquet", self.schema)
        room = ROWS_PER_FILE - inside
        self._file.write_table(rows.slice(0, room).combine_chunks(), row_group_size=self.rows_per_group)
        self.rows += min(room, rows.num_rows)
        if rows.num_rows > room:
            self._group(rows.slice(room))


class ShuffledFolder:
    """A `RowFolder` of rows in a seeded random order, of which only a few thousand are in memory at a time.

    The order is that of `random.Random(seed).shuffle` on the list of all `total` rows, which have about `row_bytes`
    each.
    """

    def __init__(self, folder: RowFolder, total: int, row_bytes: float, seed: int, work: Path) -> None:
        order = array("q", range(total))
        random.Random(seed).shuffle(order)  # type: ignore[arg-type]
        self._place = np.empty(total, np.int64)
        self._place[np.frombuffer(order, np.int64)] = np.arange(total)
        self._spill = Spill(work, max(1, min(SHUFFLE_ROWS, int(SHUFFLE_BYTES / max(row_bytes, 1)))))
        self.folder, self.total, self._seen = folder, total, 0

    def write(self, table: pa.Table) -> None:
        """Add the next rows of the order before shuffling."""
        places = self._place[self._seen : self._seen + table.num_rows]
        self._seen += table.num_rows
        self._spill.add(places, table.append_column("place", pa.array(places)))

    def close(self) -> int:
        for part in range(-(-self.total // self._spill.rows_per_part)):
            rows = self._spill.take(part)
            if rows is not None:
                self.folder.write(rows.take(pa.array(np.argsort(rows["place"].to_numpy()))).drop_columns("place"))
        return self.folder.close()
