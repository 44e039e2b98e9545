"""The append-only store of completions or verdicts, its shards, and the locks that die with their process."""

from openr1.store.append import AppendStore, now
from openr1.store.keys import Key, Keys
from openr1.store.lock import FileLock, holder_of, is_locked
from openr1.store.segment import JOURNALS, PARTS, Tail
from openr1.store.shard import Shard

__all__ = [
    "JOURNALS",
    "PARTS",
    "AppendStore",
    "FileLock",
    "Key",
    "Keys",
    "Shard",
    "Tail",
    "holder_of",
    "is_locked",
    "now",
]
