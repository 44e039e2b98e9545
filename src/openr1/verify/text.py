r"""Answers as text: LaTeX wrappers and markup off, case and spacing levelled."""

from __future__ import annotations

import re
import unicodedata

_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|mbox|hbox|emph|bf|rm"
    r"|it|operatorname|boldsymbol|bm|underline)\s*\*?\s*\{([^{}]*)\}"
)
_SPACES = re.compile(r"\\[,;:! ]|\\quad|\\qquad|~|\s+")
_MARKS = frozenset("*_`$\\")
_DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"))


def strip_math_delimiters(text: str) -> str:
    r"""Without surrounding `$…$`, `\(…\)`, `\[…\]`, markdown emphasis and white space.

    >>> strip_math_delimiters("**$5$**")
    '5'
    """
    text = text.strip()
    if text[:1] not in _MARKS or (text[0] == "\\" and text[1:2] not in ("(", "[")):
        return text
    for _ in range(6):
        before = text
        for mark in ("**", "__", "`", "*"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)].strip()
        for opening, closing in _DELIMITERS:
            if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
                inner = text[len(opening) : len(text) - len(closing)].replace("\\$", "\0")
                escaped = closing == "$" and text.endswith("\\$")
                if "$" not in inner and closing not in inner and not escaped:
                    text = inner.replace("\0", "\\$").strip()
        if text == before:
            break
    return text


def unwrap(text: str) -> str:
    r"""Text commands replaced by their content: `\text{(A)}` is `(A)`. At most ten levels deep."""
    if "\\" not in text:
        return text
    for _ in range(10):
        text, count = _WRAPPER.subn(r" \1 ", text)
        if not count:
            break
    return text


def plain(text: str) -> str:
    r"""A text to compare words by: NFKC, no LaTeX wrappers, no case, single spaces, no closing punctuation.

    >>> plain("\\text{No Solution}.")
    'no solution'
    """
    text = unwrap(strip_math_delimiters(text))
    text = _SPACES.sub(" ", text).replace("{", "").replace("}", "").replace("$", "")
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    text = text.replace("–", "-").replace("—", "-").replace("−", "-")
    return " ".join(text.split()).strip(" .,;:!\"'`")
