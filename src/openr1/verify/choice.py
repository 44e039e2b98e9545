"""Multiple choice: letters A to J, with or without the option's text."""

from __future__ import annotations

import re
from typing import Any

from openr1.verify.base import Decision, Info, Verifier, golds_of
from openr1.verify.text import plain, strip_math_delimiters, unwrap

_LETTER = r"[A-Ja-j]"
_LEAD = re.compile(
    r"^(?:the\s+)?(?:correct\s+|right\s+|best\s+|final\s+)?(?:options?|choices?|answers?)(?:\s+(?:is|are))?\s*:?\s+",
    re.IGNORECASE,
)
_ONE = re.compile(
    rf"^(?:\(\s*({_LETTER})\s*\)|\[\s*({_LETTER})\s*\]|({_LETTER})\s*[.):\]]|({_LETTER}))(?=\W|$)\s*(.*)$", re.DOTALL
)
_SEPARATOR = re.compile(r"\s*(?:,|;|/|&|\band\b|\bor\b)\s*", re.IGNORECASE)
_MANY = re.compile(
    rf"^\(?{_LETTER}[.)]?(?:\s*(?:,|;|/|&|\band\b|\bor\b)\s*(?:\band\b\s*)?\(?{_LETTER}[.)]?)+$", re.IGNORECASE
)
_GLUED = re.compile(r"^[A-J]{2,10}$")


def parse_choice(text: str) -> tuple[frozenset[str], str]:
    """The chosen letters, upper case, and the option's text when it is there; no letters when the text names none.

    >>> sorted(parse_choice("(B) Paris")[0]), parse_choice("(B) Paris")[1]
    (['B'], 'paris')
    """
    text = unwrap(strip_math_delimiters(text.replace("\\ ", " ").replace("~", " ")))
    text = " ".join(text.replace("{", "").replace("}", "").split())
    text = _LEAD.sub("", text.strip("*_`$ "), count=1).strip("*_`$ ")
    if len(text) < 200 and _MANY.match(text):
        letters = re.findall(rf"(?<![A-Za-z]){_LETTER}(?![A-Za-z])", text)
        return frozenset(letter.upper() for letter in letters), ""
    if _GLUED.match(text) and len(set(text)) == len(text) and list(text) == sorted(text):
        return frozenset(text), ""
    match = _ONE.match(text)
    if not match:
        return frozenset(), plain(text)
    bare, rest = match.group(4), match.group(5).strip(" .:-*_")
    if bare and rest:  # "A train" is no choice of A
        return frozenset(), plain(text)
    letter = next(group for group in match.groups()[:4] if group)
    return frozenset(letter.upper()), plain(rest)


class ChoiceVerifier(Verifier):
    """The letter decides; an answer of only the option's text counts where the gold or `info["choices"]` has it.

    A gold of several letters ("A, C") asks for exactly those. `info["choices"]` is the list of option texts, A first.
    """

    name = "choice"

    def mutate(self, answer: str) -> str:
        letters, _ = parse_choice(answer)
        return "ABCDEFGHIJ"[(ord(min(letters)) - 64) % 10] if letters else f"not {answer}"

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        golds = golds_of(gold)
        if not golds:
            return "the gold answer is missing or empty"
        known = len((info or {}).get("choices") or [])
        for item in golds:
            letters, text = parse_choice(item)
            if not letters and not (known and text in _texts(info or {})):
                return f"the gold {item[:80]!r} names no letter from A to J"
            if known and any(ord(letter) - 65 >= known for letter in letters):
                return f"the gold {item[:80]!r} is beyond the {known} choices"
        return None

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision:
        if len(answer) > 2000:
            return Decision("error", "screen", "too long for a choice")
        right = any(self._same(answer, item, info) for item in golds_of(gold))
        return Decision("correct" if right else "wrong", "choice")

    def _same(self, answer: str, gold: str, info: Info) -> bool:
        texts = _texts(info)
        letters, text = parse_choice(answer)
        gold_letters, gold_text = parse_choice(gold)
        if not gold_letters and gold_text in texts:
            gold_letters = frozenset(chr(65 + texts.index(gold_text)))
        if letters:
            return letters == gold_letters
        if not gold_text and len(gold_letters) == 1 and texts:
            index = ord(next(iter(gold_letters))) - 65
            gold_text = texts[index] if index < len(texts) else ""
        return bool(text) and text == gold_text

    def relevant(self, info: Info) -> Info:
        return {"choices": info["choices"]} if info.get("choices") else {}


def _texts(info: Info) -> list[str]:
    return [plain(str(choice)) for choice in info.get("choices") or []]
