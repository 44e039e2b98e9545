"""Hashes in numpy that are the same in every process and on every machine."""

from __future__ import annotations

import hashlib

import numpy as np


def id_hashes(ids: np.ndarray, salt: str) -> np.ndarray:
    """[n] uint64 of [n] byte strings, one hash function for each salt."""
    key = hashlib.sha256(salt.encode()).digest()
    digests = b"".join(hashlib.blake2b(i, digest_size=8, key=key).digest() for i in ids.tolist())
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on [n] uint64, modulo 2^64: neighbours become strangers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
