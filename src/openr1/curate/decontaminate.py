"""Decontamination: rows that are copies of benchmark problems, or of parts of them, are found.

Two passes. The first runs over all rows in numpy: every n-gram of tokens of every row is looked up in an index of the
benchmarks' n-grams, and the whole text and the sentences of every row in tables of whole problems, which finds the
short ones too. N-grams of several problems, or of common words only, are boilerplate and not in the index (except for
problems that have no other). The second pass compares what was found token by token (`compare`): it decides.

What is found depends on the row, the benchmarks and the settings only; not on other rows, nor on their order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openr1.curate.compare import How, Likeness, compare
from openr1.curate.ngrams import U64, TokenBlock, hash_words, heads, ngrams, token_blocks
from openr1.curate.normalise import COMMON, OF_COMMON, Units, distinctiveness, units

MOST_COMPARED = 8  # problems that one row is compared with, those that share the most n-grams first
MOST_PROBLEMS = 2  # problems that an n-gram may stand in before it is boilerplate
COMMON_SHARE = 0.05  # of a benchmark's problems: words in more of them are common in it
LEAST_FOR_COMMON = 40  # problems of a benchmark that its common words are counted over
EXCERPT = 200
_DIGIT_WEIGHT = 0.1  # a digit is a token here, and formulas are full of small numbers
LEAST_WEIGHT = 1.5  # what an n-gram must say (`distinctiveness`) to be looked for
FEW = 1 / 3  # of a problem's n-grams: where fewer say that much, twice as many are looked for


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a benchmark."""

    benchmark: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that is a copy. `coverage`: the share of the shorter text that stands in the other (see `compare`).

    `excerpt`: where the problem's text agrees with the row. `also`: other benchmarks that the row is a copy of.
    """

    benchmark: str
    problem: str
    how: How
    coverage: float
    tokens: int
    excerpt: str
    text: str
    also: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> tuple[str, ...]:
        return (self.benchmark, *self.also)


class _Table:
    """A set of 64-bit hashes with the problems of each; a table by the first bits answers most questions."""

    def __init__(self, hashes: U64, problems: NDArray[np.int64]) -> None:
        order = np.lexsort((problems, hashes))
        hashes, self.problems = hashes[order], problems[order]
        self.hashes, first = np.unique(hashes, return_index=True)
        self.first = np.append(first, len(hashes))
        bits = min(max(len(self.hashes).bit_length() + 4, 12), 26)
        self.shift = np.uint64(64 - bits)
        self.maybe = np.zeros(1 << bits, dtype=bool)
        self.maybe[self.hashes >> self.shift] = True

    def find(self, asked: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(where in `asked`, where in `hashes`) of all that are in the set."""
        at = np.flatnonzero(self.maybe[asked >> self.shift])
        if not len(at) or not len(self.hashes):
            return at[:0], at[:0]
        place = np.minimum(np.searchsorted(self.hashes, asked[at]), len(self.hashes) - 1)
        true = self.hashes[place] == asked[at]
        return at[true], place[true]

    def of(self, place: int) -> list[int]:
        """The problems of the hash at a place."""
        return self.problems[self.first[place] : self.first[place + 1]].tolist()


class DecontaminationIndex:
    """The n-grams and whole texts of benchmarks, to check rows against."""

    def __init__(self, problems: Sequence[Problem], *, n: int, coverage: float, distinctive: float) -> None:
        self.problems, self.n, self.coverage, self.distinctive = list(problems), n, coverage, distinctive
        self._units: list[Units] = [units(p.text) for p in self.problems]
        self._common = self._common_words()
        words = (sorted(COMMON | self._common), list("0123456789"), list("abcdefghijklmnopqrstuvwxyz"))
        self._word_hashes = tuple(map(hash_words, words))
        self._compact: dict[bytes, list[int]] = defaultdict(list)
        self._grams, self._short, self._longest_short = self._tables()

    @classmethod
    def build(
        cls,
        benchmarks: Mapping[str, Iterable[str | tuple[str, str]]],
        n: int = 8,
        *,
        coverage: float = 0.4,
        distinctive: float = 4.0,
    ) -> DecontaminationIndex:
        """An index of the problems of `benchmarks`: name -> texts, or (id, text) pairs.

        `n`: tokens of an n-gram, and the least that a part must have to count as a copy. `coverage`, `distinctive`:
        see `compare`.
        """
        problems = []
        for name, texts in benchmarks.items():
            for i, item in enumerate(texts):
                key, text = (str(i), item) if isinstance(item, str) else item
                problems.append(Problem(name, key, text))
        return cls(problems, n=n, coverage=coverage, distinctive=distinctive)

    # ------------------------------------------------------------------------------------------------- building
    def _common_words(self) -> frozenset[str]:
        """The words that a good part of a benchmark's problems share."""
        sizes = Counter(p.benchmark for p in self.problems)
        counts: Counter[tuple[str, str]] = Counter()
        for problem, found in zip(self.problems, self._units, strict=True):
            counts.update((problem.benchmark, word) for word in set(found.words))
        return frozenset(
            word
            for (name, word), n in counts.items()
            if sizes[name] >= LEAST_FOR_COMMON and n > COMMON_SHARE * sizes[name] and word != "#"
        )

    def weight(self, word: str) -> float:
        """How much a token says of a problem; a word that is common in a benchmark: no more than the commonest."""
        return min(distinctiveness(word), OF_COMMON) if word in self._common else distinctiveness(word)

    def _tables(self) -> tuple[_Table, _Table, int]:
        grams: list[U64] = []
        owners: list[int] = []
        weights: list[NDArray[np.float64]] = []
        short: list[tuple[int, int]] = []
        longest_short, seen = 0, set()
        for number, tokens, compact in self._tokens():
            self._compact[compact].append(number)
            if 0 < len(tokens) < self.n:
                short.append((int(ngrams(tokens, len(tokens))[0]), number))
                longest_short = max(longest_short, len(tokens))
            if len(tokens) < self.n or (key := tokens.tobytes()) in seen:
                continue  # a problem that stands there twice is found once, by its first place
            seen.add(key)
            found = ngrams(tokens, self.n)
            says = np.concatenate([[0.0], np.cumsum(self._weights(tokens))])
            grams.append(found)
            owners.append(number)
            weights.append(says[self.n :] - says[: -self.n])
        hashes = np.array([h for h, _ in short], dtype=np.uint64)
        shorts = _Table(hashes, np.array([p for _, p in short], dtype=np.int64))
        if not grams:
            return _Table(np.empty(0, np.uint64), np.empty(0, np.int64)), shorts, longest_short
        return _indexed(grams, owners, weights), shorts, longest_short

    def _tokens(self) -> Iterator[tuple[int, U64, bytes]]:
        """Number, tokens, and letters and digits of every problem."""
        for block in token_blocks([p.text for p in self.problems]):
            for i, compact in enumerate(block.compact):
                yield block.first + i, block.tokens[block.bounds[i] : block.bounds[i + 1]], compact

    def _weights(self, tokens: U64) -> NDArray[np.float64]:
        common, digits, letters = self._word_hashes
        weights = np.where(np.isin(tokens, digits), _DIGIT_WEIGHT, 1.0)
        weights[np.isin(tokens, common)] = OF_COMMON
        weights[np.isin(tokens, letters)] = 0.0
        return weights

    # ------------------------------------------------------------------------------------------------- checking
    def check(self, texts: Sequence[str]) -> list[Hit | None]:
        """For every text, what it is a copy of, or None; the same length and order."""
        hits: list[Hit | None] = [None] * len(texts)
        for block in token_blocks(texts, sentences=self._longest_short > 0):
            for row, suspects in self._suspects(block).items():
                number = block.first + row
                hits[number] = self._decide(texts[number], suspects)
        return hits

    def _suspects(self, block: TokenBlock) -> dict[int, list[int]]:
        """Rows of a block that share something with problems: the problems, those that share the most first."""
        shared: dict[int, Counter[int]] = defaultdict(Counter)
        for row, compact in enumerate(block.compact):
            if compact in self._compact:
                shared[row].update(dict.fromkeys(self._compact[compact], len(compact)))
        at, place = self._grams.find(ngrams(block.tokens, self.n))
        rows = np.searchsorted(block.bounds, at, side="right") - 1
        inside = at + self.n <= block.bounds[rows + 1]
        for row, where in zip(rows[inside].tolist(), place[inside].tolist(), strict=True):
            shared[row].update(self._grams.of(where))
        if self._longest_short:
            self._add_short(block, shared)
        return {row: [p for p, _ in found.most_common(MOST_COMPARED)] for row, found in shared.items()}

    def _add_short(self, block: TokenBlock, shared: dict[int, Counter[int]]) -> None:
        rows = np.searchsorted(block.bounds, block.heads, side="right") - 1
        whole = rows < len(block.bounds) - 1
        begin, rows = block.heads[whole], rows[whole]
        for m, hashes in heads(block.tokens, begin, block.bounds[rows + 1], self._longest_short):
            for at, place in zip(*self._short.find(hashes), strict=True):
                shared[int(rows[at])].update(dict.fromkeys(self._short.of(place), m))

    def _decide(self, text: str, suspects: Sequence[int]) -> Hit | None:
        row = units(text)
        found: list[tuple[Problem, Units, Likeness]] = []
        for number in suspects:
            problem, tokens = self.problems[number], self._units[number]
            likeness = compare(
                tokens,
                row,
                (problem.text, text),
                n=self.n,
                coverage=self.coverage,
                distinctive=self.distinctive,
                weight=self.weight,
            )
            if likeness is not None:
                found.append((problem, tokens, likeness))
        if not found:
            return None
        problem, tokens, best = max(found, key=lambda f: (f[2].how == "exact", f[2].coverage, f[2].tokens))
        also = dict.fromkeys(p.benchmark for p, _, _ in found if p.benchmark != problem.benchmark)
        return Hit(
            problem.benchmark,
            problem.id,
            best.how,
            round(best.coverage, 4),
            best.tokens,
            _excerpt(tokens, best),
            problem.text,
            tuple(sorted(also)),
        )


def _indexed(grams: Sequence[U64], owners: Sequence[int], weights: Sequence[NDArray[np.float64]]) -> _Table:
    """The n-grams worth looking for: of few problems, and not of common words and digits only.

    Of a problem that has few of them, because it is all formula, those that say the most.
    """
    different = [np.unique(found) for found in grams]
    unique, problems = np.unique(np.concatenate(different), return_counts=True)
    kept, numbers = [], []
    for found, owner, says in zip(grams, owners, weights, strict=True):
        rare = problems[np.searchsorted(unique, found)] <= MOST_PROBLEMS
        choice = rare if rare.any() else np.full(len(found), True)
        good = choice & (says >= LEAST_WEIGHT)
        if good.sum() < FEW * len(found):
            wanted = max(int(choice.sum() * 2 * FEW), 1)
            good |= choice & (says >= np.sort(says[choice])[-wanted])
        good = np.unique(found[good])
        kept.append(good)
        numbers.append(np.full(len(good), owner))
    return _Table(np.concatenate(kept), np.concatenate(numbers))


def _excerpt(problem: Units, likeness: Likeness) -> str:
    """The problem's tokens around the longest run that agrees."""
    shown = [min(r, key=len, default=w) for w, r in zip(problem.words, problem.numbers, strict=True)]
    begin, end = likeness.begin, likeness.begin + likeness.tokens
    text = " ".join(shown[begin:end])
    text = ("… " if begin else "") + text + (" …" if end < len(shown) else "")
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
