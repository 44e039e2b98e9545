"""Texts to rolling 64-bit hashes of tokens and of n-grams, many texts at once, in numpy.

The tokens are those of `normalise`, read from bytes: a word is a run of letters, and here every digit is a token of
its own, so that `1,000` and `1000`, or `\\frac12` and `\\frac{1}{2}`, need no rule. Words of STRUCTURE are left out.
Words are hashed by their first 16 bytes. What is equal under `normalise` has equal tokens here; the reverse need not
hold, so whatever is found here is compared again token by token (`compare`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from openr1.curate.normalise import STRUCTURE, fold

U64 = NDArray[np.uint64]

BLOCK_CHARS = 1 << 17  # so that what one step of numpy writes is still in the cache for the next
_SEPARATOR = "\x01"
_PAD = bytes(16)
_APOSTROPHE = b"'"
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX_TAIL = np.uint64(0xC2B2AE3D27D4EB4F)
_STEP = 0xD6E8FEB86659FD93
_SHIFT = np.uint64(29)
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)


def _table(letter: int | None, digit: int | None) -> bytes:
    """A table for bytes.translate: other bytes become 0, letters and digits a class, or themselves in lower case."""
    table = bytearray(256)
    for code in range(256):
        char = chr(code).lower()
        if code >= 128 or "a" <= char <= "z":
            table[code] = letter if letter is not None else (code if code >= 128 else ord(char))
        elif "0" <= char <= "9":
            table[code] = digit if digit is not None else code
    table[1] = 1 if letter is None else 0
    return bytes(table)


_LOWER = _table(None, None)
_CLASS = _table(letter=2, digit=1)
_ENDS = bytes(chr(code) in ".?!:;\n" for code in range(256))


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """The tokens of a run of texts: text `first + i` has the tokens `bounds[i]` to `bounds[i + 1]`.

    `compact`: each text's letters and digits alone, as bytes. `heads`: the first token of every text and, where asked
    for, of every sentence (and a few others, behind decimal points).
    """

    first: int
    tokens: U64
    bounds: NDArray[np.int64]
    compact: list[bytes]
    heads: NDArray[np.int64]


def token_blocks(texts: Sequence[str], sentences: bool = False) -> Iterator[TokenBlock]:
    """The tokens of all texts, in blocks that fit the processor's cache; `sentences`: with where sentences begin."""
    ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    first = 0
    while first < len(texts):
        done = int(ends[first - 1]) if first else 0
        stop = max(int(np.searchsorted(ends, done + BLOCK_CHARS, side="right")), first + 1)
        part = texts[first:stop]
        try:
            yield _block(first, part, sentences)
        except _HoldsSeparator:
            yield _block(first, [text.replace(_SEPARATOR, " ") for text in part], sentences)
        first = stop


class _HoldsSeparator(Exception):
    """A text holds the character that stands between texts."""


def _block(first: int, texts: Sequence[str], sentences: bool) -> TokenBlock:
    joined = _SEPARATOR.join(texts)
    raw = joined.encode() if joined.isascii() else _folded(joined)
    lower = raw.translate(_LOWER, _APOSTROPHE)
    compact = lower.translate(None, b"\x00").split(_SEPARATOR.encode())
    classes = np.frombuffer(lower.translate(_CLASS) + b"\x00", dtype=np.uint8)
    padded = np.frombuffer(lower + _PAD, dtype=np.uint8)

    begins = np.empty(len(classes), dtype=bool)  # a letter after none, or any digit
    begins[0] = classes[0] > 0
    np.greater(classes[1:], classes[:-1], out=begins[1:])
    digits = classes == 1
    begins |= digits
    stops = np.empty(len(classes), dtype=bool)  # the class behind is lower, or this is a digit
    stops[-1] = False
    np.less(classes[1:], classes[:-1], out=stops[:-1])
    stops |= digits
    start = np.flatnonzero(begins)
    length = np.flatnonzero(stops) - start + 1

    tokens = _hash_words(padded, start, length)
    kept = ~_structure()[tokens >> np.uint64(48)]
    tokens, start = tokens[kept], start[kept]
    rows = np.flatnonzero(padded[: len(lower)] == 1)
    if len(rows) != len(texts) - 1:
        raise _HoldsSeparator
    bounds = np.concatenate([[0], np.searchsorted(start, rows), [len(start)]]).astype(np.int64)
    heads = bounds[:-1]
    if sentences:
        marks = np.flatnonzero(np.frombuffer(raw.translate(_ENDS, _APOSTROPHE), dtype=np.bool_))
        heads = np.concatenate([heads, np.searchsorted(start, marks)])
    return TokenBlock(first, tokens, bounds, compact, heads)


def _folded(text: str) -> bytes:
    """`fold` as UTF-8, letter case left as it is: only the runs of bytes beyond ASCII are looked at."""
    raw = text.encode("utf-8", "replace")
    beyond = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) >= 128)
    if not len(beyond):
        return raw
    breaks = np.flatnonzero(np.diff(beyond) > 1)
    begins = beyond[np.concatenate([[0], breaks + 1])].tolist()
    ends = (beyond[np.concatenate([breaks, [len(beyond) - 1]])] + 1).tolist()
    pieces: list[bytes] = []
    done = 0
    for begin, end in zip(begins, ends, strict=True):
        plain, composed = _run(raw[begin:end])
        if not composed:
            return fold(text).encode("utf-8", "replace")
        pieces += (raw[done:begin], plain)
        done = end
    pieces.append(raw[done:])
    return b"".join(pieces)


@lru_cache(maxsize=65536)
def _run(raw: bytes) -> tuple[bytes, bool]:
    """A run of characters beyond ASCII folded, and whether that is right without the letters before it."""
    text = raw.decode()
    composed = unicodedata.is_normalized("NFC", text) and not any(map(unicodedata.combining, text))
    return fold(text).encode("utf-8", "replace"), composed


def _hash_words(padded: NDArray[np.uint8], start: NDArray[np.int64], length: NDArray[np.int64]) -> U64:
    """A 64-bit hash of the bytes padded[start : start + length] of every word, of its first 16 bytes."""
    if not len(start):
        return np.empty(0, dtype=np.uint64)
    eight: U64 = np.ndarray(shape=(len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))
    words = eight[start]
    words &= _MASKS[np.minimum(length, 8)]
    words *= _MIX
    long = np.flatnonzero(length > 8)
    if len(long):
        tail = eight[start[long] + 8] & _MASKS[np.minimum(length[long] - 8, 8)]
        words[long] += tail * _MIX_TAIL
    words ^= words >> _SHIFT
    words *= _MIX_TAIL
    return words


@cache
def _structure() -> NDArray[np.bool_]:
    """By the first 16 bits of a token's hash: whether it is left out. About one other word in 500 goes with them."""
    found = np.zeros(1 << 16, dtype=bool)
    found[hash_words(sorted(STRUCTURE)) >> np.uint64(48)] = True
    return found


def hash_words(words: Sequence[str]) -> U64:
    """The hashes of single words, as they stand in `TokenBlock.tokens`."""
    raw = [word.encode("utf-8", "replace") for word in words]
    length = np.array([len(word) for word in raw], dtype=np.int64)
    start = np.cumsum(length) - length
    return _hash_words(np.frombuffer(b"".join(raw) + _PAD, dtype=np.uint8), start, length)


def ngrams(tokens: U64, n: int) -> U64:
    """The hash of every run of n tokens, sum_j tokens[i+j] * STEP^(n-1-j) mod 2^64; shape (len(tokens) - n + 1,)."""
    if len(tokens) < n:
        return np.empty(0, dtype=np.uint64)
    done, width = tokens, 1
    for bit in bin(n)[3:]:  # double the width, and add one token where n's binary digit says so
        done = done[:-width] * np.uint64(pow(_STEP, width, 1 << 64)) + done[width:]
        width *= 2
        if bit == "1":
            done = done[:-1] * np.uint64(_STEP) + tokens[width:]
            width += 1
    return done


def heads(tokens: U64, begin: NDArray[np.int64], end: NDArray[np.int64], most: int) -> Iterator[tuple[int, U64]]:
    """For m = 1 … most: the hashes of the m tokens from `begin` on; 0 where they would run past `end`."""
    padded = np.concatenate([tokens, np.zeros(most, dtype=np.uint64)])
    head = np.zeros(len(begin), dtype=np.uint64)
    for m in range(1, most + 1):
        head = head * np.uint64(_STEP) + padded[begin + (m - 1)]
        yield m, np.where(begin + m <= end, head, np.uint64(0))
