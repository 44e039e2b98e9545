"""An expression with its unit, percent sign or currency."""

from __future__ import annotations

from openr1.verify import units
from openr1.verify.answer import Answer
from openr1.verify.brackets import OPEN, SHUT, expression
from openr1.verify.grammar import FUNCTIONS, GREEK, Tree, contains, num
from openr1.verify.lexer import NotMath, Token


def scalar(tokens: list[Token]) -> Answer:
    """An expression with its unit, percent sign or currency; `±` makes a list of two."""
    tokens, unit, percent, scale = _units(tokens)
    tree = expression(tokens)
    if scale != 1:
        tree = ("mul", tree, num(scale))
    if contains(tree, "pm"):
        both = [Answer("scalar", tree=_choose(tree, side), unit=unit, percent=percent) for side in (1, 2)]
        return Answer("list", items=tuple(both))
    decimal = any(t.kind == "num" and "." in t.text for t in tokens)
    return Answer("scalar", tree=tree, unit=unit, percent=percent, decimal=decimal)


def _choose(tree: Tree, side: int) -> Tree:
    if tree[0] == "pm":
        return _choose(tree[side], side)
    return tuple(_choose(part, side) if isinstance(part, tuple) else part for part in tree)


def _units(tokens: list[Token]) -> tuple[list[Token], str | None, bool, int]:
    """Tokens without their unit, the unit's name, whether a percent sign stood there, and a scale word's factor."""
    unit: str | None = None
    if tokens[0].text in units.CURRENCY and len(tokens) > 1:
        unit, tokens = units.CURRENCY[tokens[0].text], tokens[1:]
    elif len(tokens) > 2 and tokens[0].text == "-" and tokens[1].text in units.CURRENCY:
        unit, tokens = units.CURRENCY[tokens[1].text], [tokens[0], *tokens[2:]]
    if tokens[-1].text in units.CURRENCY and len(tokens) > 1:
        unit, tokens = units.CURRENCY[tokens[-1].text], tokens[:-1]
    if tokens[-1].text in ("\\%", "%"):
        return tokens[:-1], unit, True, 1
    if tokens[0].kind in ("word", "text") and len(tokens) > 1 and tokens[1].kind == "num":
        word = units.canonical_unit(tokens[0].text)
        if word in ("$", "€", "£", "¥", "₹"):
            unit, tokens = word, tokens[1:]
    start = _unit_start(tokens)
    if start is None:
        return tokens, unit, False, 1
    words = " ".join(t.text for t in tokens[start:])
    scale = 1
    first, _, rest = words.partition(" ")
    if first.lower().rstrip("s") in units.SCALES:
        scale, words = units.SCALES[first.lower().rstrip("s")], rest
    if not words:
        return tokens[:start], unit, False, scale
    name = units.canonical_unit(words)
    if name is None:
        raise NotMath(f"the words {words[:30]!r}")
    if name == "%" or name.startswith("% "):
        return tokens[:start], unit, True, scale
    return tokens[:start], unit or name, False, scale


def _unit_start(tokens: list[Token]) -> int | None:
    """Where a trailing unit begins: at words behind a number, or at a degree sign."""
    depth = 0
    for index, token in enumerate(tokens):
        if token.kind in ("op", "cmd"):
            depth += (token.text in OPEN) - (token.text in SHUT)
        if index == 0 or depth > (1 if token.text == "{" else 0):
            continue
        rest = tokens[index:]
        if token.text == "^" and any(t.text.lstrip("\\") in FUNCTIONS for t in tokens[:index]):
            continue  # \sin 30^\circ: the degrees are the function's
        if token.text == "^" and "".join(t.text for t in rest[1:4]).replace("{", "").startswith(
            ("\\circ", "\\degree")
        ):
            tail = [t for t in rest if t.text not in ("^", "{", "}", "\\circ", "\\degree")]
            return index if all(t.kind in ("word", "text") for t in tail) else None
        if token.text == "\\degree":
            return index
        if token.text == "\\Omega" and index == len(tokens) - 1 and tokens[index - 1].kind == "num":
            return index
        if token.text in ("{", "\\frac") or token.kind not in ("word", "text"):
            continue
        numeric = all(t.kind == "num" or t.kind in ("op", "cmd") or t.text == "pi" for t in tokens[:index])
        unitary = all(
            t.kind in ("word", "text")
            or t.text in ("^", "/", "{", "}", "\\cdot", ".", "(", ")", "-", "*")
            or (t.kind == "num" and rest[k - 1].text in ("^", "-", "{"))
            for k, t in enumerate(rest)
        )
        if token.kind == "text" and unitary:
            return index
        if numeric and unitary and tokens[index - 1].text not in ("+", "-", "*", "/", "^", "_", "\\cdot", "\\times"):
            single = len(rest) == 1 or rest[1].text in ("/", "^", "\\cdot")
            if units.known_word(token.text) or (single and token.spaced and units.unit_letter(token.text)):
                return index
            if token.spaced and len(token.text) > 2 and token.text.isascii() and not _function_word(token.text):
                return index
    return None


def _function_word(text: str) -> bool:
    return text in FUNCTIONS or text in GREEK or text in ("sqrt", "infinity", "inf")
