"""Is one text a copy of another, or of a part of it? The careful, slow comparison of two texts that share n-grams.

Rules, in the order in which they are tried (tokens as in `normalise`):

1. *Numbers and operators matter.* Where the two texts run alike but for a number or an operator, they are two problems
   of one template; such a run is no evidence, and if more numbers differ than agree there is no copy at all.
2. `exact`: all tokens are equal, or all letters and digits are.
3. `whole`: one text stands whole in the other, in one run of at least n tokens; a shorter problem, as whole sentences.
4. `part`: a run of at least n equal tokens that says enough (`distinctive`, the sum of `distinctiveness` over its
   different tokens), however little of the texts it covers; or such runs that cover at least `coverage` of the tokens
   of either text and say 2.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from openr1.curate.normalise import NUMBER, Units, distinctiveness, fold

How = Literal["exact", "whole", "part"]

ANCHOR = 4  # tokens that must agree, numbers aside, for a run to be looked at
LEAST_WHOLE = 3  # tokens of the shortest problem that is looked for as a sentence of a longer text
LEAST_LETTERS = 30  # letters and digits that must agree where punctuation was taken out of a text
_SIGN = re.compile(r"[^\w\s]")
_BARE = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How two texts are alike. `coverage`: the share of the shorter one's tokens that stand in runs of both texts;
    `tokens`, `begin`: the longest run, its size and where it begins in the problem."""

    how: How
    coverage: float
    tokens: int
    begin: int


@dataclass(frozen=True, slots=True)
class _Run:
    """`size` tokens from `a` on in the problem that are those from `b` on in the row."""

    a: int
    b: int
    size: int


def compare(
    problem: Units,
    row: Units,
    texts: tuple[str, str],
    *,
    n: int = 8,
    coverage: float = 0.4,
    distinctive: float = 4.0,
    weight: Callable[[str], float] = distinctiveness,
) -> Likeness | None:
    """How the row (the second of `texts`) is a copy of the problem or of a part of either; None where it is not."""
    if _equal(problem, row) or _same_letters(*texts):
        return Likeness("exact", 1.0, len(problem), 0)
    if not len(problem) or not len(row):
        return None
    evidence, agreed, differ = _runs(problem, row)
    if differ > agreed:
        return None
    if len(problem) < n:
        return Likeness("whole", 1.0, len(problem), 0) if _sentence(problem, row) else None
    long_runs = [r for r in evidence if r.size >= n]
    if not long_runs:
        return None
    longest = max(long_runs, key=lambda r: r.size)
    share = sum(r.size for r in long_runs) / min(len(problem), len(row))
    if longest.size == min(len(problem), len(row)):
        return Likeness("whole", share, longest.size, longest.a)
    says = [sum(map(weight, dict.fromkeys(_spelled(problem, r)))) for r in long_runs]
    if max(says) >= distinctive or (share >= coverage and sum(says) >= min(2.0, distinctive)):
        return Likeness("part", share, longest.size, longest.a)
    return None


def _equal(a: Units, b: Units) -> bool:
    return (
        len(a) > 0
        and a.words == b.words
        and all(_agree(x, y) for x, y in zip(a.numbers, b.numbers, strict=True))
        and not any(_other(x, y) for x, y in zip(a.ops, b.ops, strict=True))
    )


def _agree(a: frozenset[str], b: frozenset[str]) -> bool:
    return a == b or not a.isdisjoint(b)


def _other(a: str, b: str) -> bool:
    """Another operator; one that is missing may have gone with the punctuation."""
    return bool(a and b and a != b)


def _same_letters(a: str, b: str) -> bool:
    """All letters and digits are the same, and one of the texts has lost its punctuation, signs and all."""
    bare = _BARE.sub("", fold(a))
    if len(bare) < LEAST_LETTERS or bare != _BARE.sub("", fold(b)):
        return False
    return not (_SIGN.search(a) and _SIGN.search(b))


# ------------------------------------------------------------------------------------------------------------ runs
def _runs(a: Units, b: Units) -> tuple[list[_Run], int, int]:
    """Runs without a difference in numbers or operators, and how many numbers and operators agree and differ in all.

    Of runs that overlap in either text the longest counts: in a formula every term looks like every other.
    """
    evidence: list[_Run] = []
    agreed = differ = 0
    taken_a, taken_b = bytearray(len(a)), bytearray(len(b))
    for run in sorted(_alike(a, b), key=lambda r: (-r.size, r.b, r.a)):
        last = run.size - 1
        if taken_a[run.a] or taken_a[run.a + last] or taken_b[run.b] or taken_b[run.b + last]:
            continue
        taken_a[run.a : run.a + run.size] = taken_b[run.b : run.b + run.size] = b"\x01" * run.size
        same, other = _differences(a, b, run)
        agreed += same
        differ += other
        if not other:
            evidence.append(_trimmed(a, b, run))
    return evidence, agreed, differ


def _alike(a: Units, b: Units) -> Iterator[_Run]:
    """All runs of at least ANCHOR tokens that cannot be made longer, whatever their numbers and operators."""
    starts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in range(len(a) - ANCHOR + 1):
        starts[a.words[i : i + ANCHOR]].append(i)
    done: dict[int, int] = {}  # diagonal -> where in b its last run ended
    for j in range(len(b) - ANCHOR + 1):
        for i in starts.get(b.words[j : j + ANCHOR], ()):
            if done.get(i - j, -1) <= j:
                size = _extent(a.words, b.words, i, j)
                done[i - j] = j + size
                yield _Run(i, j, size)


def _extent(a: Sequence[str], b: Sequence[str], i: int, j: int) -> int:
    size = 0
    while i + size < len(a) and j + size < len(b) and a[i + size] == b[j + size]:
        size += 1
    return size


def _differences(a: Units, b: Units, run: _Run) -> tuple[int, int]:
    """Numbers that agree in a run, and numbers and operators that differ.

    A number at the edge of the run counts only at the edge of the problem: where a part was cut out before a number,
    another one may happen to follow.
    """
    i, j, size = run.a, run.b, run.size
    same = other = 0
    for k in range(size):
        inside = 0 < k < size - 1
        if a.words[i + k] == NUMBER:
            if _agree(a.numbers[i + k], b.numbers[j + k]):
                same += 1
            elif inside or (k == 0 and i == 0) or (k == size - 1 and i + size == len(a)):
                other += 1
        if k and _other(a.ops[i + k], b.ops[j + k]):
            other += 1
    return same, other


def _trimmed(a: Units, b: Units, run: _Run) -> _Run:
    """The run without a number at its edge that differs."""
    i, j, size = run.a, run.b, run.size
    while size and not _agree(a.numbers[i], b.numbers[j]):
        i, j, size = i + 1, j + 1, size - 1
    while size and not _agree(a.numbers[i + size - 1], b.numbers[j + size - 1]):
        size -= 1
    return _Run(i, j, size)


def _sentence(problem: Units, row: Units) -> bool:
    """Whether a short problem is, token by token, one or several whole sentences of a row."""
    size = len(problem)
    if size < LEAST_WHOLE or max(map(distinctiveness, problem.words)) < 1:
        return False
    return any(
        begin + size in row.ends
        and row.words[begin : begin + size] == problem.words
        and all(_agree(problem.numbers[k], row.numbers[begin + k]) for k in range(size))
        and not any(_other(problem.ops[k], row.ops[begin + k]) for k in range(1, size))
        for begin in row.ends
        if begin + size <= len(row)
    )


def _spelled(text: Units, run: _Run) -> list[str]:
    """The words of a run; numbers by their digits, so that two numbers are two tokens."""
    words = text.words[run.a : run.a + run.size]
    numbers = text.numbers[run.a : run.a + run.size]
    return [NUMBER + min(r) if w == NUMBER else w for w, r in zip(words, numbers, strict=True)]
