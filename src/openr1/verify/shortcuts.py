"""Texts whose meaning shows without parsing: numbers, fractions, words, options of a choice."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from openr1.verify.grammar import FUNCTIONS, GREEK, names
from openr1.verify.text import plain, strip_math_delimiters, unwrap

_OPTION = re.compile(r"^(?:\(\s*([A-Ha-h])\s*\)|([A-H])\s*[.):])\s*(.*)$", re.DOTALL)
_WORDS = re.compile(r"[^\W\d_]+(?:[ ,;.'’/-]+[^\W\d_]+)*[.!]?")
_MATH_WORDS = frozenset(
    {"pi", "infinity", "inf", "infty", "oo", "percent", *FUNCTIONS, *(g for g in GREEK if len(g) > 2)}
)
_SHORT_WORDS = names("no on up in by at to go we he it is as of or if so do us an am pm")
_NUMBER = re.compile(r"\s*([+-]?)(\d{1,300})(?:\.(\d{0,300}))?\s*", re.ASCII)
_GROUPED_NUMBER = re.compile(r"\s*[+-]?[1-9]\d{0,2}(?:(?:,|\{,\}|,\\!)\d{3}){1,30}(?:\.\d{1,30})?\s*", re.ASCII)
_GROUP_MARK = re.compile(r",\\!|\{,\}|,")
_RATIO = re.compile(
    r"\s*([+-]?)\s*(?:\\[dtc]?frac\s*\{([+-]?)(\d{1,40})\}\s*\{(\d{1,40})\}|(\d{1,40})\s*/\s*(\d{1,40}))\s*", re.ASCII
)
_MODULUS = re.compile(r"\\pmod\s*\{?\s*(\w+)\s*\}?|\(\s*(?:\\mod|\\bmod|mod)\s*\{?(\w+)\}?\s*\)")
_AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+)\s+(?![A-Za-z\s])")
_LETTER_LIST = re.compile(
    r"(?:\([A-J]\)|[A-J])(?:\s*(?:,|;|&|\band\b|\bor\b)\s*(?:and\s+|or\s+)?(?:\([A-J]\)|[A-J]))+"
)


@lru_cache(maxsize=8192)
def simple_number(text: str) -> str | None:
    """A plain integer or decimal, also with separators, in its one normal form; None for everything else."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        if "," not in text or not _GROUPED_NUMBER.fullmatch(text):
            return None
        match = _NUMBER.fullmatch(_GROUP_MARK.sub("", text))
        if match is None:
            return None
    sign, whole, part = match.group(1), match.group(2).lstrip("0") or "0", (match.group(3) or "").rstrip("0")
    value = f"{whole}.{part}" if part else whole
    return f"-{value}" if sign == "-" and value != "0" else value


@lru_cache(maxsize=8192)
def simple_rational(text: str) -> tuple[int, int] | None:
    r"""A plain number, `a/b` or `\frac{a}{b}` in lowest terms; None for everything else."""
    if (number := simple_number(text)) is not None:
        return Fraction(number).as_integer_ratio() if len(number) <= 40 else None
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    sign, inner, top, bottom, over, under = match.groups()
    denominator = int(bottom or under)
    if denominator == 0:
        return None
    negative = (sign == "-") != (inner == "-")
    return Fraction(int(top or over) * (-1 if negative else 1), denominator).as_integer_ratio()


@lru_cache(maxsize=8192)
def squeeze(text: str) -> str:
    """A text without the white space that means nothing: all but what stands between two digits or two letters."""
    text = strip_math_delimiters(text).rstrip(".").strip()
    text = _MODULUS.sub(lambda m: rf"\pmod{{{m[1] or m[2]}}}", text) if "mod" in text else text
    text = _AFTER_COMMAND.sub(r"\1", text) if "\\" in text else text
    return re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", "", text)


@lru_cache(maxsize=8192)
def words(text: str) -> str | None:
    """The plain form of a text that is words and no mathematics, or None."""
    bare = unwrap(strip_math_delimiters(text)).replace("\\ ", " ").replace("~", " ").replace("{", "").replace("}", "")
    bare = " ".join(bare.split()).strip(" .!,")
    if not bare or len(bare) > 400 or not _WORDS.fullmatch(bare):
        return None
    parts = re.findall(r"[^\W\d_]+", bare)
    if all(part.lower() in _MATH_WORDS or len(part) == 1 for part in parts):
        return None
    if len(parts) == 1 and len(parts[0]) == 2 and parts[0].isascii():
        told = parts[0].islower() and parts[0] not in _SHORT_WORDS and "\\text" not in text
        return None if told else plain(bare)
    if len(parts) > 1 and max(map(len, parts)) < 3:
        return None
    if len(parts) > 1 and any(
        part.lower() in _MATH_WORDS and part.lower() not in ("max", "min", "log") for part in parts
    ):
        return None
    return plain(bare)


@lru_cache(maxsize=8192)
def option(text: str) -> tuple[str, str] | None:
    """`(C) 25` as ("C", "25"); the text may be empty."""
    if text.isdigit():
        return None
    bare = unwrap(strip_math_delimiters(text)).replace("\\ ", " ").replace("~", " ").replace("{", "").replace("}", "")
    match = _OPTION.match(" ".join(bare.replace("\\quad", " ").split()))
    if match is None:
        return None
    return (match.group(1) or match.group(2)).upper(), match.group(3).strip(" .")


@lru_cache(maxsize=8192)
def letter_list(text: str) -> frozenset[str] | None:
    """`(A), (C)` and `A and C` as a set of two or more options; None for everything else."""
    if len(text) > 200 or not any(c in "ABCDEFGHIJ" for c in text):
        return None
    bare = " ".join(unwrap(strip_math_delimiters(text)).replace("\\ ", " ").replace("~", " ").split()).strip(" .")
    if not _LETTER_LIST.fullmatch(bare):
        return None
    return frozenset(c for c in bare if c in "ABCDEFGHIJ")


@lru_cache(maxsize=8192)
def capital(text: str) -> str | None:
    """The letter of a text that is one capital letter, wrapped or not."""
    bare = plain(text) if len(text) < 60 else ""
    single = len(bare) == 1 and bare.isalpha() and unwrap(strip_math_delimiters(text)).strip(" .()").isupper()
    return bare.upper() if single else None


def forget() -> None:
    """Empty the caches; for measurements."""
    for cached in (simple_number, simple_rational, squeeze, words, option, letter_list, capital):
        cached.cache_clear()
