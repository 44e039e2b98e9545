r"""The `math` verifier: extraction, text, structure, exact algebra here; the rest in a worker.

What is certain is decided in the caller's process: equal texts, words against words, structures of exact values. A
hostile form (too long, too deep, a tower of powers) is screened: no answer that can be graded within limits. What is
left goes to `openr1.verify.symbolic`, which evaluates to 60 digits and asks math-verify.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from openr1.verify import algebra
from openr1.verify.answer import Answer
from openr1.verify.approximate import value_of
from openr1.verify.base import Decision, Info, Verifier, golds_of
from openr1.verify.extract import find_answer
from openr1.verify.grammar import FUNCTIONS, GREEK, Tree, contains, names
from openr1.verify.lexer import MAX_LENGTH, NotMath, TooLarge, Unsupported, UnsupportedRelation, clean
from openr1.verify.matching import Leaf, same
from openr1.verify.structure import read
from openr1.verify.text import plain, strip_math_delimiters, unwrap

_OPTION = re.compile(r"^(?:\(\s*([A-Ha-h])\s*\)|([A-H])\s*[.):])\s*(.*)$", re.DOTALL)
_WORDS = re.compile(r"[^\W\d_]+(?:[ ,;.'’/-]+[^\W\d_]+)*[.!]?")
_JOIN = re.compile(r"\s*(?:[,;]|\band\b|\bor\b)\s*")
_MATH_WORDS = frozenset(
    {"pi", "infinity", "inf", "infty", "oo", "percent", *FUNCTIONS, *(g for g in GREEK if len(g) > 2)}
)
_SHORT_WORDS = names("no on up in by at to go we he it is as of or if so do us an am pm")
_SHORT = 700  # characters of the longest text that `simple_number` can read, rounded up
_NUMBER = re.compile(r"\s*([+-]?)(\d{1,300})(?:\.(\d{0,300}))?\s*", re.ASCII)
_GROUPED_NUMBER = re.compile(r"\s*[+-]?[1-9]\d{0,2}(?:(?:,|\{,\}|,\\!)\d{3}){1,30}(?:\.\d{1,30})?\s*", re.ASCII)
_GROUP_MARK = re.compile(r",\\!|\{,\}|,")
_RATIO = re.compile(
    r"\s*([+-]?)\s*(?:\\[dtc]?frac\s*\{([+-]?)(\d{1,40})\}\s*\{(\d{1,40})\}|(\d{1,40})\s*/\s*(\d{1,40}))\s*", re.ASCII
)
_HOLLOW = re.compile(r"\\(?:sum|prod|int|lim)(?:\s*[_^]\s*(?:\{[^{}]*\}|[^\s{}]))*\s*$")  # nothing to sum
_MODULUS = re.compile(r"\\pmod\s*\{?\s*(\w+)\s*\}?|\(\s*(?:\\mod|\\bmod|mod)\s*\{?(\w+)\}?\s*\)")
_AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+)\s+(?![A-Za-z\s])")
_OTHER_OPTION = re.compile(r"(?<![A-Za-z])\([A-J]\)|(?<![A-Za-z(])[A-J][.:)]\s")
_LETTER_LIST = re.compile(
    r"(?:\([A-J]\)|[A-J])(?:\s*(?:,|;|&|\band\b|\bor\b)\s*(?:and\s+|or\s+)?(?:\([A-J]\)|[A-J]))+"
)
_HUSK = re.compile(
    r"\\(?:boxed|fbox|text\w*|math[a-z]*|mbox|left|right|displaystyle|quad|qquad|frac|sqrt|begin|end|cdot)(?![A-Za-z])"
)
_MALFORMED = re.compile(r"\\(?:frac|sqrt)|[+*/^=_]\s*$|^\s*[*/^_]|[+/^=-]\s*[*/^]|\*\s+\*")
_GROUPS = re.compile(r"\d{1,3}(?:,\d{3})+")


def gold_text(gold: str) -> str:
    r"""The answer in a gold that may be a whole solution: its last box, or what follows `####`; else itself."""
    if "\\boxed" in gold or "\\fbox" in gold or "####" in gold or "</think>" in gold or "<answer>" in gold:
        found = find_answer(gold)
        if "####" in gold and (found is None or found.how == "bare"):
            return gold.rpartition("####")[2].strip()
        if found is not None:
            return found.text
    return gold.strip()


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
def _option(text: str) -> tuple[str, str] | None:
    """`(C) 25` as ("C", "25"); the text may be empty."""
    if text.isdigit():
        return None
    bare = unwrap(strip_math_delimiters(text)).replace("\\ ", " ").replace("~", " ").replace("{", "").replace("}", "")
    match = _OPTION.match(" ".join(bare.replace("\\quad", " ").split()))
    if match is None:
        return None
    return (match.group(1) or match.group(2)).upper(), match.group(3).strip(" .")


class _Reading:
    """A text read once: its structure, or why it has none."""

    __slots__ = ("answer", "fault", "text")

    def __init__(self, text: str, grouping: bool) -> None:
        self.text = text
        self.answer: Answer | None = None
        self.fault: NotMath | None = None
        try:
            self.answer = read(text, grouping=grouping)
        except NotMath as error:
            self.fault = error
        except (ValueError, OverflowError, RecursionError) as error:
            self.fault = TooLarge(type(error).__name__)


@lru_cache(maxsize=8192)
def _reading(text: str, grouping: bool = True) -> _Reading:
    return _Reading(text, grouping)


def forget_readings() -> None:
    """Empty the caches of parsed texts; for measurements."""
    _reading.cache_clear()
    algebra.forget_forms()
    simple_number.cache_clear()
    for cached in (simple_rational, squeeze, words, letter_list, _option, _capital):
        cached.cache_clear()


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
def _capital(text: str) -> str | None:
    """The letter of a text that is one capital letter, wrapped or not."""
    bare = plain(text) if len(text) < 60 else ""
    single = len(bare) == 1 and bare.isalpha() and unwrap(strip_math_delimiters(text)).strip(" .()").isupper()
    return bare.upper() if single else None


def _letters(gold: str, answer: str) -> bool | None:
    """A gold of one capital letter, or an answer of the form `(C) 25`."""
    several = letter_list(gold)
    if several is not None:
        return letter_list(answer) == several
    mine, theirs = _option(answer), _option(gold)
    if mine is not None and _OTHER_OPTION.search(mine[1]):  # "(A) or (C)" names no option
        mine = None if theirs is None else ("", "")
    if (single := _capital(gold)) is not None:
        theirs = (single, "")
    if theirs is None:
        return None
    if mine and theirs[0] != mine[0]:
        return False
    letter = mine[0] if mine else unwrap(strip_math_delimiters(answer)).strip(" .(){}")
    if letter == theirs[0] and (not theirs[1] or not mine or not mine[1] or plain(mine[1]) == plain(theirs[1])):
        return True
    return None


def compare_texts(gold: str, answer: str, leaf: Leaf) -> tuple[bool | None, str]:
    """Whether an answer is right, and what decided; None where only a stronger `leaf` or the engine could tell."""
    if len(answer) < _SHORT:
        mine_number, gold_number = simple_number(answer), simple_number(gold)
        exact = not isinstance(leaf, Tolerant)
        if mine_number is not None and gold_number is not None and (exact or mine_number == gold_number):
            return mine_number == gold_number, "number"
        mine_ratio, gold_ratio = simple_rational(answer), simple_rational(gold)
        if mine_ratio is not None and gold_ratio is not None and (exact or mine_ratio == gold_ratio):
            return mine_ratio == gold_ratio, "number"
    if gold == answer or (len(answer) <= MAX_LENGTH and squeeze(gold) == squeeze(answer) != ""):
        return True, "text"
    if len(answer) > MAX_LENGTH:
        raise TooLarge(f"{len(answer)} characters")
    letters = _letters(gold, answer)
    if letters is not None:
        return letters, "text"
    gold_words, answer_words = words(gold), words(answer)
    if gold_words is not None and answer_words is not None:
        return _same_words(gold_words, answer_words), "text"
    if gold_words is not None and (len(gold_words) > 4 or not gold_words.isalpha()):
        return _same_words(gold_words, plain(answer)), "text"
    mine = _reading(answer)
    theirs = _reading(gold)
    if mine.answer is None or theirs.answer is None:
        return _unread(theirs, mine, leaf)
    result = _structures(theirs.answer, mine.answer, gold, answer, leaf)
    if result is not True and (option := _option(answer)) is not None and option[1]:
        inner, by = compare_texts(gold, option[1], leaf) if _option(option[1]) is None else (False, "")
        if inner:
            return inner, by
    if result is not True and (named := _option(gold)) is not None and named[1] and _option(named[1]) is None:
        inner, by = compare_texts(named[1], answer, leaf)
        if inner:
            return inner, by
    return result, "exact"


def _same_words(gold: str, answer: str) -> bool:
    """Equal words; of lists, in any order."""
    if gold == answer or gold.replace("-", " ") == answer.replace("-", " "):
        return True
    left, right = (sorted(part for part in _JOIN.split(text) if part) for text in (gold, answer))
    return len(left) > 1 and left == right


def _structures(gold: Answer, pred: Answer, gold_text: str, answer: str, leaf: Leaf) -> bool | None:
    result = same(gold, pred, leaf)
    if result is False and gold.kind in ("list", "set") and pred.kind == "scalar" and _GROUPS.search(answer):
        # "100,200" is a number, unless the gold is plainly a list
        other = _reading(answer, grouping=False).answer
        if other is not None and re.search(r",\s| and | or |;|\\\{", gold_text):
            return same(gold, other, leaf)
    return result


def _unread(gold: _Reading, pred: _Reading, leaf: Leaf) -> tuple[bool | None, str]:
    """One side is outside the grammar."""
    for reading in (pred, gold):
        if isinstance(reading.fault, TooLarge):
            raise reading.fault
    if pred.answer is None and (option := _option(pred.text)) is not None and option[1]:
        return compare_texts(gold.text, option[1], leaf)
    if gold.answer is None and (named := _option(gold.text)) is not None and named[1] and _option(named[1]) is None:
        return compare_texts(named[1], pred.text, leaf)
    if plain(gold.text) == plain(pred.text) and (gold.answer is None) and _case_matters_not(gold.text, pred.text):
        return True, "text"
    if _HOLLOW.search(pred.text):
        return False, "text"
    if isinstance(pred.fault, UnsupportedRelation) and gold.answer is not None and gold.answer.kind == "scalar":
        return False, "exact"
    if isinstance(gold.fault, Unsupported) or isinstance(pred.fault, Unsupported):
        engine = all(r.answer is not None or isinstance(r.fault, Unsupported) for r in (gold, pred))
        return (None, "engine") if engine else (False, "text")
    return False, "text"


def _case_matters_not(a: str, b: str) -> bool:
    """Texts that differ in case are the same only where they are words, not symbols."""
    left, right = (" ".join(unwrap(strip_math_delimiters(text)).split()) for text in (a, b))
    return left == right or all(len(word) > 2 for word in re.findall(r"[^\W\d_]+", left))


class Tolerant:
    """A leaf comparison that also takes values within a relative tolerance that the task has set."""

    def __init__(self, tolerance: float, leaf: Leaf) -> None:
        self.tolerance, self.leaf = tolerance, leaf

    def __call__(self, gold: Tree, pred: Tree) -> bool | None:
        exact = self.leaf(gold, pred)
        if exact is True:
            return True
        a, b = value_of(gold), value_of(pred)
        if a is None or b is None:
            return exact
        return abs(a - b) <= self.tolerance * abs(a) or exact


class MathVerifier(Verifier):
    """Mathematical equality by the conventions of docs/grading.md. `info["tolerance"]` allows a relative error."""

    name = "math"
    version = "1"

    def present(self, answer: str) -> str:
        return f"\\boxed{{{gold_text(answer)}}}"

    def mutate(self, answer: str) -> str:
        text = gold_text(answer)
        if not any(c.isdigit() for c in text) and words(text) is None and len(text) > 1 and "inf" not in text:
            return f"({text})+1"
        return f"{text}{text}" if len(text) == 1 and text.isalpha() else super().mutate(text)

    def relevant(self, info: Info) -> Info:
        return {"tolerance": info["tolerance"]} if info.get("tolerance") else {}

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        golds = golds_of(gold)
        if not golds:
            return "the gold answer is missing or empty"
        for item in golds:
            if (reason := _gold_fault(item)) is not None:
                return reason
        return None

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision | None:
        return self._decide(answer, gold, info, algebra.compare)

    def _decide(self, answer: str, gold: list[str], info: Info, leaf: Leaf) -> Decision | None:
        if info.get("tolerance"):
            leaf = Tolerant(float(info["tolerance"]), leaf)
        undecided = False
        by = "exact"
        screened: str | None = None
        for item in gold:
            try:
                result, by = compare_texts(gold_text(item), answer, leaf)
            except TooLarge as error:
                screened = str(error)
                continue
            if result:
                return Decision("correct", by)
            undecided |= result is None
        if undecided:
            return None
        return Decision("error", "screen", screened) if screened else Decision("wrong", by)

    def decide_slow(self, answer: str, gold: list[str], info: Info) -> Decision:
        from openr1.verify import symbolic

        decision = self._decide(answer, gold, info, symbolic.compare)
        if decision is not None:
            return Decision(
                decision.status, "symbolic" if decision.decided_by == "exact" else decision.decided_by, decision.detail
            )
        for item in gold:
            text = gold_text(item)
            reason = symbolic.refused(text) or symbolic.refused(answer)
            if reason is None and symbolic.engine_equal(clean(text), clean(answer)):
                return Decision("correct", "math_verify")
            if reason is not None:
                return Decision("error", "screen", reason)
        return Decision("wrong", "math_verify")


@lru_cache(maxsize=8192)
def _gold_fault(gold: str) -> str | None:
    """Why a text cannot be a gold answer."""
    text = gold_text(gold)
    if len(text) < _SHORT and simple_rational(text) is not None:
        return None
    shown = repr(text[:80])
    content = _HUSK.sub(" ", text)
    if (
        not any(c.isalnum() for c in content) and not re.search(r"[∅∞πθ√]|\\\{|^\s*\{\s*\}\s*$", text)
    ) or text.strip().lower() == "nan":
        return f"the gold {shown} has no content"
    if len(text) > MAX_LENGTH:
        return f"the gold has {len(text)} characters; an answer is shorter than {MAX_LENGTH}"
    braces = re.sub(r"\\.", "", text)
    if braces.count("{") != braces.count("}"):
        return f"the braces of the gold {shown} do not balance"
    if text.count("\\begin{") != text.count("\\end{"):
        return f"the environment of the gold {shown} is not closed"
    reading = _reading(text)
    fault = reading.fault
    if isinstance(fault, TooLarge):
        return f"the gold {shown} is too large: {fault}"
    if fault is not None and not isinstance(fault, Unsupported) and _MALFORMED.search(text):
        return f"the gold {shown} cannot be parsed: {fault}"
    opened = sum(text.count(c) for c in "([") - sum(text.count(c) for c in ")]")
    if fault is not None and opened > 0 and "\\right." not in text:
        return f"the brackets of the gold {shown} do not balance"
    if reading.answer is not None and reading.answer.kind == "scalar" and reading.answer.tree is not None:
        return _worthless(reading.answer.tree, shown)
    return None


def _worthless(tree: Tree, shown: str) -> str | None:
    """Why a gold expression has no value to compare with: a division by zero."""
    if contains(tree, "sym", "\\infty"):
        return None
    try:
        algebra.canonical_within_budget(tree)
    except TooLarge:
        return None
    except NotMath as error:
        return f"the gold {shown} has no value: {error}"
    except (ValueError, OverflowError, RecursionError):
        return None
    return None
