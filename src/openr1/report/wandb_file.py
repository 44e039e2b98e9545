"""Read an offline `.wandb` file: LevelDB's framing of a log around W&B's records. A torn tail ends it, as any log.

The format: 7 bytes of header, then blocks of 32 KiB with records of (CRC-32, length, type), the type saying whether a
record is whole or the first, a middle or the last part of one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openr1.errors import UserError

BLOCK, HEADER = 32_768, 7
IDENT, MAGIC = b":W&B", 0xBEE1
WHOLE, LAST = 1, 4


@dataclass
class WandbFile:
    """One attempt of a W&B run. `torn`: the file ends in the middle of a record, as one of a killed process does."""

    path: Path
    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    started: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    torn: bool = False


def read_wandb_file(path: Path) -> WandbFile:
    """Everything in a file but its media. Raises UserError where it is no `.wandb` file."""
    from wandb.proto import wandb_internal_pb2 as proto

    found = WandbFile(path)
    for raw in _records(path, found):
        record = proto.Record()  # type: ignore[attr-defined]
        record.ParseFromString(raw)
        _take(found, record)
    return found


def _records(path: Path, found: WandbFile) -> Iterator[bytes]:
    data = path.read_bytes()
    if len(data) < HEADER or data[:4] != IDENT or struct.unpack("<H", data[4:6])[0] != MAGIC:
        raise UserError(f"{path}: is no .wandb file; name one that W&B wrote, or the run's folder")
    place, parts = HEADER, b""
    while place < len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        if place + HEADER > len(data):
            found.torn = True
            return
        checksum, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        body = data[place + HEADER : place + HEADER + length]
        if kind == 0 and length == 0:
            return
        if len(body) < length or zlib.crc32(body, zlib.crc32(bytes([kind]))) != checksum:
            found.torn = True
            return
        place += HEADER + length
        parts += body
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""
    found.torn = bool(parts)


def _take(found: WandbFile, record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            run = record.run
            found.id, found.name, found.group, found.job_type = (
                run.run_id,
                run.display_name,
                run.run_group,
                run.job_type,
            )
            found.started = run.start_time.ToSeconds()
            found.config |= _items(run.config.update)
        case "config":
            found.config |= _items(record.config.update)
        case "history":
            found.history.append(_items(record.history.item))
        case "summary":
            found.summary |= _items(record.summary.update)
        case "exit":
            found.exit_code = record.exit.exit_code


def _items(items: Iterable[Any]) -> dict[str, Any]:
    return {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
