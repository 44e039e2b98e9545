"""Tokens between brackets."""

from __future__ import annotations

from collections.abc import Callable

from openr1.verify.grammar import Tree, parse
from openr1.verify.lexer import Token

OPEN = {"(", "[", "{", "\\{", "\\lbrace", "\\langle", "\\lfloor", "\\lceil"}
SHUT = {")", "]", "}", "\\}", "\\rbrace", "\\rangle", "\\rfloor", "\\rceil"}


def split(tokens: list[Token], separators: Callable[[Token], bool]) -> list[tuple[Token | None, list[Token]]]:
    """Pieces between top-level separators, each with the separator before it."""
    pieces: list[tuple[Token | None, list[Token]]] = [(None, [])]
    depth = 0
    for token in tokens:
        if token.kind in ("op", "cmd"):
            depth += (token.text in OPEN) - (token.text in SHUT)
        if depth == 0 and separators(token):
            pieces.append((token, []))
        else:
            pieces[-1][1].append(token)
    return pieces


def trim(tokens: list[Token]) -> list[Token]:
    """Without a pair of LaTeX braces around everything, and without trailing punctuation."""
    while tokens and tokens[-1].text in (".", ",", ";") and tokens[-1].kind == "op":
        tokens = tokens[:-1]
    while len(tokens) > 1 and tokens[0].text == "{" and partner(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def partner(tokens: list[Token]) -> int:
    depth = 0
    for index, token in enumerate(tokens):
        if token.kind in ("op", "cmd"):
            depth += (token.text in OPEN) - (token.text in SHUT)
            if depth == 0:
                return index
    return -1


def expression(tokens: list[Token]) -> Tree:
    """The tree of tokens that are one expression; raises NotMath."""
    return parse(trim(tokens))
