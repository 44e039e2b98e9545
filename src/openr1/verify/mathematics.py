r"""The `math` verifier: extraction, text, structure, exact algebra here; the rest in a worker.

What is certain is decided in the caller's process: equal texts, words against words, structures of exact values. A
hostile form (too long, too deep, a tower of powers) is screened: no answer that can be graded within limits. What is
left goes to `openr1.verify.symbolic`, which evaluates to 60 digits and asks math-verify.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from openr1.verify import algebra, shortcuts
from openr1.verify.answer import Answer
from openr1.verify.approximate import value_of
from openr1.verify.base import Decision, Info, Verifier, golds_of
from openr1.verify.extract import find_answer
from openr1.verify.grammar import Tree, contains
from openr1.verify.lexer import MAX_LENGTH, NotMath, TooLarge, Unsupported, UnsupportedRelation, clean
from openr1.verify.matching import Leaf, same
from openr1.verify.shortcuts import capital, letter_list, option, simple_number, simple_rational, squeeze, words
from openr1.verify.structure import read
from openr1.verify.text import plain, strip_math_delimiters, unwrap

_JOIN = re.compile(r"\s*(?:[,;]|\band\b|\bor\b)\s*")
_SHORT = 700  # characters of the longest text that `simple_number` can read, rounded up
_HOLLOW = re.compile(r"\\(?:sum|prod|int|lim)(?:\s*[_^]\s*(?:\{[^{}]*\}|[^\s{}]))*\s*$")  # nothing to sum
_OTHER_OPTION = re.compile(r"(?<![A-Za-z])\([A-J]\)|(?<![A-Za-z(])[A-J][.:)]\s")
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
    shortcuts.forget()


def _letters(gold: str, answer: str) -> bool | None:
    """A gold of one capital letter, or an answer of the form `(C) 25`."""
    several = letter_list(gold)
    if several is not None:
        return letter_list(answer) == several
    mine, theirs = option(answer), option(gold)
    if mine is not None and _OTHER_OPTION.search(mine[1]):  # "(A) or (C)" names no option
        mine = None if theirs is None else ("", "")
    if (single := capital(gold)) is not None:
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
    if result is not True and (chosen := option(answer)) is not None and chosen[1]:
        inner, by = compare_texts(gold, chosen[1], leaf) if option(chosen[1]) is None else (False, "")
        if inner:
            return inner, by
    if result is not True and (named := option(gold)) is not None and named[1] and option(named[1]) is None:
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
    if pred.answer is None and (chosen := option(pred.text)) is not None and chosen[1]:
        return compare_texts(gold.text, chosen[1], leaf)
    if gold.answer is None and (named := option(gold.text)) is not None and named[1] and option(named[1]) is None:
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
