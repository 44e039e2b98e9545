"""Words of reflection in a completion ("wait", "mistake", "verify"): a trace of self-checking, counted, not rewarded.

A completion reflects if it holds one of the words, whatever its case. A word of Latin letters must stand as a whole
word; digits and signs around it end it (`wait7+8` holds "wait", `waiter` does not). Other scripts, which write no
spaces, are found anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from openr1.rewards.language import script_of

_LETTER = r"[^\W\d_]"


@lru_cache(maxsize=32)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_one(word) for word in words), re.IGNORECASE)


def _one(word: str) -> str:
    before = f"(?<!{_LETTER})" if _latin(word[0]) else ""
    after = f"(?!{_LETTER})" if _latin(word[-1]) else ""
    return before + re.escape(word) + after


def _latin(character: str) -> bool:
    return character.isalpha() and script_of(character) == "LATIN"


def reflects(text: str, words: Sequence[str]) -> bool:
    """Whether `text` holds one of `words`.

    >>> reflects("7+8=16;Wait7+8=15", ["wait"]), reflects("the waiter", ["wait"])
    (True, False)
    """
    known = tuple(w for w in words if w)
    return bool(known) and _pattern(known).search(text) is not None


def reflection_share(texts: Iterable[str], words: Sequence[str]) -> float:
    """Share of `texts` that hold one of `words`; 0 of none."""
    found = [reflects(text, words) for text in texts]
    return sum(found) / max(len(found), 1)
