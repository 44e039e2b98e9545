"""Problem texts in a form that can be compared: the same problem written in another way gives the same tokens.

Case, spacing, punctuation, apostrophes, Unicode look-alikes and the ways to write LaTeX (delimiters, spacing
commands, `\\left`, `\\dfrac`, `\\text`, thousands separators, `≤` for `\\leq`, …) do not matter. A token is a word, a
number or a CJK character. Operators are no tokens, but stand beside them: `2x+3y` and `2x-3y` are two problems.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

NUMBER = "#"
OF_COMMON = 0.2  # what one of the commonest words says of a problem


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# words that only shape a formula, and relations that can also be written with a sign; dropped wherever they stand
STRUCTURE = _words("""
    left right big bigl bigr bigg biggl biggr middle frac dfrac tfrac cfrac cdot cdots ldots dots dotsc times ast
    div text textbf textit textrm textup mathrm mathbf mathit mathbb mathcal mathsf mathfrak boldsymbol
    operatorname emph mbox hbox quad qquad hspace vspace displaystyle textstyle limits nolimits begin end align
    aligned array cases equation gather le leq leqslant ge geq geqslant ne neq lt gt equiv approx circ degree to in
    rightarrow longrightarrow mod bmod pmod lfloor rfloor lceil rceil floor ceil lvert rvert vert mid boxed
    underline overline bar hat label tag hfill newline par noindent phantom dollar
""")

# the commonest words of problem texts: a run of nothing else is a phrase that everybody writes, not a copy
COMMON = _words("""
    a an the of and or if is are be was were has have had do does did will would can could may might must shall
    should let we you he she it they his her its their our your this that these those there here which who whom
    whose what when where why how many much for from by with without at on as not no than then so such each every
    all any some both one two three four five six seven eight nine ten first second third last next other another
    same only also more most less least up down out into over under between among per after before during given
    find determine compute calculate evaluate simplify solve show prove suppose assume consider define denote
    express write answer answers following number numbers value values sum product difference integer integers
    positive negative nonnegative non real rational natural whole prime digit digits equation equations expression
    expressions function functions solution solutions problem total satisfy satisfies satisfying exist exists equal
    equals possible different distinct form terms term point points line lines set sets side sides length angle
    triangle square circle area minimum maximum smallest largest greatest least ways way get gets make makes take
    takes go goes now still left common divisor multiple remainder divided divisible probability chosen choose
    random randomly polynomial coefficient coefficients sequence defined graph radius perimeter volume height width
    cost costs price percent hour hours minute minutes day days week weeks month year years old dollars cents money
    buy buys sell sells give gives bought sold gave people person together altogether remaining rest about using
    used use nearest round rounded decimal places un une des les la le el los las de del du et y en que qui cuantos
    cuántos cuantas cuántas combien es est son sont por para pour con avec se si su sus ses su cada chaque tiene
    tienen a ont total dans sur al au aux más plus
""")

_GREEK = {c: unicodedata.name(c).split()[-1].lower() for c in "αβγδεζηθικμνξοπρστυφχψω"}
_GREEK |= {"ς": "sigma", "λ": "lambda"}
_SIGNS = {
    "−": "-", "–": "-", "—": " - ", "‐": "-", "∕": "/", "⁄": "/", "÷": "/", "≤": " <= ", "⩽": " <= ", "≥": " >= ",
    "⩾": " >= ", "≠": " != ", "√": " sqrt ", "∞": " infty ", "∑": " sum ", "∏": " prod ", "∫": " int ", "∠": " angle ",
    "△": " triangle ", "∆": " delta ", "∪": " cup ", "∩": " cap ", "⊂": " subset ", "⊆": " subseteq ",
    "∅": " emptyset ", "⊥": " perp ", "∥": " parallel ", "±": " pm ", "’": "'", "‘": "'", "ʼ": "'", "′": "'", "´": "'",
}  # fmt: skip
_CJK = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x323AF))


class _Symbols(dict[int, str]):
    """What a character beyond ASCII becomes; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", char).casefold())
        if char in _SIGNS or char in _GREEK:
            new = _SIGNS.get(char) or f" {_GREEK[char]} "
        elif plain != char:  # ½, ², full-width letters, capitals
            new = "".join(c if c.isascii() else self[ord(c)] for c in plain)
        elif any(low <= code <= high for low, high in _CJK):
            new = f" {char} "
        else:
            new = char if unicodedata.category(char)[0] in "LMN" else " "
        self[code] = new
        return new


_symbols = _Symbols()
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def fold(text: str) -> str:
    """Unicode and case evened out: composed, look-alikes and Greek letters by name, CJK characters apart."""
    if not text.isascii():
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
        text = _BEYOND_ASCII.sub(lambda run: run[0].translate(_symbols), text)
    return text.lower()


@dataclass(frozen=True, slots=True)
class Units:
    """The tokens of a text. A number's token is `#`; `numbers[i]` holds the ways to read it, empty for a word.

    `ops[i]`: the operators between token i-1 and token i. `ends`: token counts at which a sentence ends.
    """

    words: tuple[str, ...]
    numbers: tuple[frozenset[str], ...]
    ops: tuple[str, ...]
    ends: frozenset[int]

    def __len__(self) -> int:
        return len(self.words)


_STEPS = [
    (re.compile(pattern), new)
    for pattern, new in [
        (r"(?<=\d)(?:\{,\}|\\,|,?\\!)(?=\d)", ","),  # thousands
        (r"([_^])\s*\{([^{}]*)\}", r"\1 \2 "),
        (r"\\[dtc]?frac(?:\s*(?=\d)|\s+)(\w)\s*(?=[\w{])", r" \1/"),
        (r"(\\[dtc]?frac\s*\{[^{}]*\})\s*(?=\w)", r"\1/"),
        (r"\}\s*\{", "/"),
        (r"\\(?:leqslant|leq|le)(?![a-z])", "<="),
        (r"\\(?:geqslant|geq|ge)(?![a-z])", ">="),
        (r"\\(?:neq|ne)(?![a-z])", "!="),
        (r"\\lt(?![a-z])", "<"),
        (r"\\gt(?![a-z])", ">"),
        (r"\\div(?![a-z])", "/"),
        (r"\\(?:begin|end)\s*\{[a-z*]*\}", " "),
        (r"\\\\|\\[,;:! ]|~", " "),
        (r"'", ""),
        (r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})", " "),  # hyphenated words
    ]
]
_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:,\d{3}(?!\d))*|<=|>=|!=|[-+/=<>]|[.?!:;](?=[\s$)\]]|$)|\n")
_OPERATORS = frozenset(["<=", ">=", "!=", "-", "+", "/", "=", "<", ">"])


def units(text: str) -> Units:
    """The tokens of a text, with what stands between them."""
    text = fold(text)
    for pattern, new in _STEPS:
        text = pattern.sub(new, text)
    words: list[str] = []
    groups: list[list[str]] = []
    ops: list[str] = []
    ends = {0}
    between, stopped = "", False
    for token in _TOKEN.findall(text):
        if token[0].isdigit():
            if words and words[-1] == NUMBER and not between and not stopped:
                groups[-1].append(token)
                continue
            words.append(NUMBER)
            groups.append([token])
        elif token in _OPERATORS:
            between += token
            continue
        elif token[0] in ".?!:;\n":
            ends.add(len(words))
            stopped |= token != "\n"
            continue
        elif token in STRUCTURE:
            continue
        else:
            words.append(token)
            groups.append([])
        ops.append(between)
        between, stopped = "", False
    ends.add(len(words))
    return Units(tuple(words), tuple(_readings(g) for g in groups), tuple(ops), frozenset(ends))


def _readings(group: list[str]) -> frozenset[str]:
    """`1,000` is one number or two; two texts agree if one reading does."""
    if not group:
        return frozenset()
    return frozenset({" ".join(group).replace(",", ""), " ".join(group).replace(",", " ")})


def normalise(text: str) -> str:
    """The canonical text: tokens and operators with one space between them.

    >>> normalise(r"Find $\\dfrac{x+y}{2}$.") == normalise("find (x + y)/2")
    True
    >>> normalise("2x+3y") == normalise("2x-3y")
    False
    """
    u = units(text)
    numbers = (min(readings, key=len, default="") for readings in u.numbers)
    return " ".join(
        f"{op} {n if w == NUMBER else w}".strip() for w, n, op in zip(u.words, numbers, u.ops, strict=True)
    )


@lru_cache(maxsize=65536)
def distinctiveness(word: str) -> float:
    """How much a token says of the problem it stands in: 1 for a number or an uncommon word, 0.25 for a CJK character,
    0.2 for one of the commonest words, 0 for a single letter."""
    if word[0] == NUMBER:
        return 1.0
    if any(low <= ord(word[0]) <= high for low, high in _CJK):
        return 0.25
    return 0.0 if len(word) < 2 else OF_COMMON if word in COMMON else 1.0
