"""Steps that look for the same question twice: exactly, or nearly by MinHash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic

import numpy as np

from openr1.curate.base import PromptStep, S
from openr1.curate.hashing import mixed
from openr1.curate.rows import Drop, PromptBatch
from openr1.curate.settings import ExactDedupStep, NearDedupStep
from openr1.tasks import normalise

RECALL = 0.99  # of pairs at the threshold that the bands must bring together
ROUNDS = 64  # how many leaders a band's bucket of unlike questions may have
PAIRS = 65_536  # compared at once


class _Clusters(PromptStep[S], Generic[S]):
    """Takes in all questions, then drops of every cluster all but the one with the smallest id."""

    reason = ""

    def __call__(self, batches: Iterable[PromptBatch]) -> Iterator[list[Drop | None]]:
        ids: list[str] = []
        sizes: list[int] = []
        with TemporaryDirectory(dir=self.work) as scratch:
            self.start(Path(scratch))
            for batch in batches:
                ids.extend(batch.ids)
                sizes.append(len(batch))
                self.take([normalise(q) for q in batch.questions])
            order = np.argsort(np.array([i.encode() for i in ids], dtype="S"), kind="stable") if ids else np.empty(0)
            rank = np.empty(len(ids), np.int64)
            rank[order.astype(np.int64)] = np.arange(len(ids))
            first = _smallest(self.clusters(rank), rank)
        start = 0
        for size in sizes:
            yield [self._drop(ids, i, int(first[i])) for i in range(start, start + size)]
            start += size

    def _drop(self, ids: list[str], i: int, first: int) -> Drop | None:
        return None if first == i else Drop(self.reason, ids[first])

    def start(self, scratch: Path) -> None:
        """Begin anew."""

    def take(self, questions: list[str]) -> None:
        """The next normalised questions."""
        raise NotImplementedError

    def clusters(self, rank: np.ndarray) -> np.ndarray:
        """[n] the cluster that each question belongs to; `rank` [n] is the order of the ids."""
        raise NotImplementedError


def _smallest(cluster: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """[n] the member of each one's cluster with the smallest rank."""
    best = np.full(int(cluster.max(initial=-1)) + 1, len(rank), np.int64)
    np.minimum.at(best, cluster, rank)
    by_rank = np.empty(len(rank), np.int64)
    by_rank[rank] = np.arange(len(rank))
    return by_rank[best[cluster]] if len(rank) else by_rank


class ExactDedup(_Clusters[ExactDedupStep]):
    """Equal after `tasks.normalise`, by 128 bits of BLAKE2."""

    reason = "same question as another prompt"

    def start(self, scratch: Path) -> None:
        self.digests: list[np.ndarray] = []

    def take(self, questions: list[str]) -> None:
        data = b"".join(hashlib.blake2b(q.encode("utf-8", "replace"), digest_size=16).digest() for q in questions)
        self.digests.append(np.frombuffer(data, dtype="V16"))

    def clusters(self, rank: np.ndarray) -> np.ndarray:
        if not self.digests:
            return np.empty(0, np.int64)
        halves = np.concatenate(self.digests).view("<u8").reshape(-1, 2)
        return _groups(halves[:, 0], halves[:, 1])


def _groups(*keys: np.ndarray) -> np.ndarray:
    """[n] a number for each row, the same where all keys are."""
    order = np.lexsort(keys)
    new = np.zeros(len(order), bool)
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    out = np.empty(len(order), np.int64)
    out[order] = np.cumsum(new)
    return out


class NearDedup(_Clusters[NearDedupStep]):
    """MinHash over character shingles (Broder 1997), banded (Leskovec et al., Mining of Massive Datasets, 3.4).

    Rows that share a band are compared by the share of equal hashes, which estimates the Jaccard similarity with a
    standard deviation of sqrt(s (1 - s) / permutations). Clusters are the connected parts of what is near enough.
    Signatures lie in a file; memory holds one band at a time.
    """

    reason = "nearly the question of another prompt"
    SEED = 1  # of the hash functions: a property of the method, so that the run's seed changes no duplicates

    def start(self, scratch: Path) -> None:
        self.rows = bands_for(self.settings.threshold, self.settings.permutations)
        self.bands = self.settings.permutations // self.rows
        self.scratch, self.sizes = scratch, [0]
        self.signatures = open(scratch / "signatures", "wb")  # noqa: SIM115
        self.keys = open(scratch / "bands", "wb")  # noqa: SIM115

    def take(self, questions: list[str]) -> None:
        signatures = minhash(questions, self.settings.shingle, self.settings.permutations, self.SEED)
        signatures.tofile(self.signatures)
        banded = signatures[:, : self.bands * self.rows].reshape(len(questions), self.bands, self.rows)
        keys = np.zeros(banded.shape[:2], np.uint64)
        for column in range(self.rows):
            keys = mixed(keys ^ banded[:, :, column])
        np.ascontiguousarray(keys.T).tofile(self.keys)
        self.sizes.append(self.sizes[-1] + len(questions))

    def clusters(self, rank: np.ndarray) -> np.ndarray:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        self.signatures.close()
        self.keys.close()
        n = len(rank)
        if not n:
            return np.empty(0, np.int64)
        signatures = np.memmap(self.scratch / "signatures", np.uint32, "r", shape=(n, self.settings.permutations))
        pairs = [self._near(self._band(b), rank, signatures) for b in range(self.bands)]
        a, b = (np.concatenate([p[i] for p in pairs]) for i in (0, 1))
        return connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)), directed=False)[1]

    def _band(self, band: int) -> np.ndarray:
        """[n] uint64: the key of one band of every question."""
        out = np.empty(self.sizes[-1], np.uint64)
        with open(self.scratch / "bands", "rb") as f:
            for start, stop in zip(self.sizes, self.sizes[1:], strict=False):
                f.seek(8 * (start * self.bands + band * (stop - start)))
                out[start:stop] = np.fromfile(f, np.uint64, stop - start)
        return out

    def _near(self, keys: np.ndarray, rank: np.ndarray, signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (leader, member) of a band's buckets that are similar; who is unlike its leader finds another."""
        order = np.lexsort((rank, keys))
        bucket = keys[order]
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for _ in range(ROUNDS):
            first = np.ones(len(bucket), bool)
            first[1:] = bucket[1:] != bucket[:-1]
            leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
            a, b = leader[~first], order[~first]
            if not len(a):
                break
            near = np.concatenate([self._similar(signatures, a, b, i) for i in range(0, len(a), PAIRS)])
            found.append((a[near], b[near]))
            order, bucket = b[~near], bucket[~first][~near]
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def _similar(self, signatures: Any, a: np.ndarray, b: np.ndarray, start: int) -> np.ndarray:
        here = slice(start, start + PAIRS)
        return (signatures[a[here]] == signatures[b[here]]).mean(axis=1) >= self.settings.threshold


def bands_for(threshold: float, permutations: int) -> int:
    """Rows a band: as many as still bring pairs at the threshold together with probability `RECALL`."""
    rows = [
        r for r in range(1, permutations + 1) if 1 - (1 - min(threshold, 0.999) ** r) ** (permutations // r) >= RECALL
    ]
    return max(rows, default=1)


def minhash(texts: list[str], shingle: int, permutations: int, seed: int) -> np.ndarray:
    """[n, permutations] uint32 signatures of the sets of character shingles; equal texts have equal ones."""
    from rensa import RMinHash

    if not texts:
        return np.empty((0, permutations), np.uint32)
    hashes, offsets = shingle_hashes(texts, shingle)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, permutations, seed)
    return np.array(matrix.to_rows(), np.uint32)


def shingle_hashes(texts: list[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `n` characters, text after text, and [len(texts) + 1] where each text begins.

    A text that is shorter is one shingle, filled up with NUL.
    """
    padded = [t if len(t) >= n else t + "\0" * (n - len(t)) for t in texts]
    lengths = np.array([len(t) for t in padded])
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    total = len(codes) - n + 1
    hashes = np.zeros(total, np.uint64)
    for i in range(n):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[i : total + i]
    inside = np.ones(total, bool)
    ends = np.cumsum(lengths)[:-1]
    for back in range(1, n):
        inside[ends - back] = False
    return mixed(hashes[inside]), np.concatenate([[0], np.cumsum(lengths - n + 1)]).astype(np.uint64)
