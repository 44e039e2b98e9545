"""Which part of a store's rows one of N tasks makes: an equal range of the prompt ids, which are hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openr1.errors import UserError
from openr1.records import stable_hash

ID = re.compile(r"[0-9a-f]{16}")
BITS = 64


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`: the prompts whose ids lie in the index-th of `count` equal ranges."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16` as a shard. Raises UserError for anything but i/N with 0 <= i < N."""
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip())
        if found is None:
            raise UserError(f"shard={text}: is no shard; write shard=i/N, such as shard=0/16")
        index, count = int(found[1]), int(found[2])
        if index >= count:
            raise UserError(f"shard={text}: the shards of {count} are 0/{count} to {max(count - 1, 0)}/{count}")
        return cls(index, count)

    @classmethod
    def of_folder(cls, folder: Path) -> Shard:
        """The shard that a folder `shard-00003-of-00016` holds."""
        index, count = folder.name.removeprefix("shard-").split("-of-")
        return cls(int(index), int(count))

    @property
    def name(self) -> str:
        """The shard as a part of a file's name: `00003-of-00016`."""
        return f"{self.index:05d}-of-{self.count:05d}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def __contains__(self, prompt_id: object) -> bool:
        return place(str(prompt_id)) * self.count >> BITS == self.index


def place(prompt_id: str) -> int:
    """Where a prompt lies in the space of hashes, [0, 2^64); an id that is no hash is hashed first."""
    return int(prompt_id if ID.fullmatch(prompt_id) else stable_hash(prompt_id), 16)


def shard_folders(folder: Path) -> list[Path]:
    """The folders of the shards of a store, by name."""
    return sorted(p for p in folder.glob("shard-*-of-*") if p.is_dir())
