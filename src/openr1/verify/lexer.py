r"""Answers to tokens: LaTeX, plain ASCII (`sqrt(2)/2`, `x**2`) and Unicode (`½`, `√2`, `x²`) become one alphabet.

Kinds: `num` (an exact Fraction), `word` (letters), `cmd` (a LaTeX command with its backslash), `text` (the words of a
`\text{}`), `op` (one symbol). A token remembers whether white space stood before it. Nothing is evaluated here, and
the time is linear in the length, which `MAX_LENGTH` bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 3000
MAX_TOKENS = 1200
MAX_DIGITS = 400


class NotMath(ValueError):
    """The text is not in the grammar: prose, malformed, or too large."""


class TooLarge(NotMath):
    """The text may be in the grammar but is too long, too deep or too big to look at."""


class Unsupported(NotMath):
    """Mathematics that our grammar lacks (integrals, sums, limits): the symbolic engine may know it."""


class UnsupportedRelation(Unsupported):
    """Relations and structures that our grammar lacks: never the value of a single expression."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    spaced: bool = False
    value: Fraction | None = None

    def __str__(self) -> str:
        return self.text


_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "*", "⋅": "*", "·": "*", "∙": "*", "∗": "*", "÷": "/",
    "⁄": "/", "∕": "/", "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "⩽": "\\le ", "⩾": "\\ge ",
    "≠": "\\ne ", "≈": "\\approx ", "≡": "\\equiv ", "∈": "\\in ", "∉": "\\notin ", "∪": "\\cup ", "∩": "\\cap ",
    "∅": "\\emptyset ", "±": "\\pm ", "∓": "\\mp ", "°": "^\\circ ", "√": "\\sqrt ", "∛": "\\sqrt[3]", "′": "'",
    "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "λ": "\\lambda ", "μ": "\\mu ", "φ": "\\phi ",
    "ω": "\\omega ", "ρ": "\\rho ", "σ": "\\sigma ", "Δ": "\\Delta ", "∆": "\\Delta ", "ℝ": "\\mathbb{R}",
    "ℤ": "\\mathbb{Z}", "½": "{\\frac{1}{2}}", "⅓": "{\\frac{1}{3}}", "⅔": "{\\frac{2}{3}}", "¼": "{\\frac{1}{4}}",
    "¾": "{\\frac{3}{4}}", "⅕": "{\\frac{1}{5}}", "⅛": "{\\frac{1}{8}}", "⅜": "{\\frac{3}{8}}", "⅝": "{\\frac{5}{8}}",
    "⅞": "{\\frac{7}{8}}", "⅙": "{\\frac{1}{6}}", "⅚": "{\\frac{5}{6}}", "％": "%", "，": ",", "（": "(", "）": ")",
    "：": ":", "；": ";", "。": ".", "＝": "=", "＋": "+", "、": ",", "\u00a0": " ", "\u2009": " ", "\u202f": "\\,",
    "⟨": "\\langle ", "⟩": "\\rangle ", "∠": "\\angle ", "△": "\\triangle ", "…": "\\ldots ", "⌊": "\\lfloor ",
    "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ", "∣": "|", "＜": "<", "＞": ">", "→": "\\to ",
    "⇒": "\\Rightarrow ",
    "∧": " and ", "∨": " or ", "∖": "\\setminus ", "\u200b": "", "\ufeff": "", "\u2060": "", "\u200e": "",
    "\u200f": "",
}  # fmt: skip
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_WIDE_DIGITS = {ord("０") + i: str(i) for i in range(10)}

_DROP = re.compile(
    r"\\(?:left|right|mleft|mright|bigl|bigr|Bigl|Bigr|biggl|biggr|Biggl|Biggr|big|Big|bigg|Bigg|middle)(?![A-Za-z])\s*\.?"
    r"|\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|boldmath|mathstrut|strut|nonumber|notag|hfill|allowbreak)"
    r"(?![A-Za-z])"
)
_SAME = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}"), r"\\binom{\1}{\2}"),
    (re.compile(r"^([^{}]*)\\over(?![A-Za-z])([^{}]*)$"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*\{\\(?:text|mathrm)\{([^{}]*)\}\}\s*\{\\(?:text|mathrm)\{([^{}]*)\}\}"), r"\\text{\1/\2}"),
    (re.compile(r"(?<=\d)\{\s*\}"), ""),
    (re.compile(r"\{\s*,\s*\}"), ","),
    (re.compile(r",\\!\s*"), ","),
    (re.compile(r"(?<=\d)(?:\\[,;: !]|\\thinspace|~|\{\s\}|\{\\,\})\s*(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\mskip\s*-?\d+mu|\\hspace\s*\*?\{[^{}]*\}|\\vspace\s*\*?\{[^{}]*\}|\\phantom\s*\{[^{}]*\}"), " "),
)
_ORDINALS = ("st", "nd", "rd", "th")
_ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:\\(?:text|textrm|mathrm|rm)\s*)?\{?\s*(st|nd|rd|th)\s*\}?\s*\}?(?![A-Za-z])"
)
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot|overset\{\.\})\s*\{(\d+)\}|\\(?:overline|bar|dot)\s*(\d)|\((\d+)\)(?=\s*$))"
)
_SPACE = r"(?P<space>(?:\s|\\[,;: ]|\\quad(?![A-Za-z])|\\qquad(?![A-Za-z])|\\thinspace(?![A-Za-z])|~|\\\n)+)"
_NUMBER = r"(?P<num>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6}(?![\d.]))?)"
_TOKEN = re.compile(
    rf"{_SPACE}|{_NUMBER}"
    r"|(?P<text>\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|emph|textup|mathrm|rm|bf|it|operatorname"
    r"|mathbf|mathit|mathsf|boldsymbol|bm|mathnormal|mathbb|mathcal|mathscr|mathfrak)\*?(?![A-Za-z])\s*)"
    r"|(?P<cmd>\\[A-Za-z]+)|(?P<esc>\\.)|(?P<word>[A-Za-z]+)|(?P<other>.)",
    re.DOTALL,
)
_GROUPED = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])(?:\.\d+)?(?!\d)")
_SPACED_GROUPS = re.compile(r"(?<![\d.,/^_])[1-9]\d{0,2}(?: \d{3})+(?![\d/])(?:\.\d+)?(?! ?[\d/])")
_MIXED = re.compile(r"(?<![\d.,/^_\\])(\d{1,9})[ ~]+(\d{1,6})\s*/\s*(\d{1,6})(?![\d.^])")
_SI_NAMES = "m cm mm km s ms g kg mg N J kJ W kW V A K C Pa kPa Hz mol L mL T F h min eV"
_SI = frozenset(_SI_NAMES.split())
_OPENERS = {"(", "[", "\\{", "\\langle", "\\lbrace"}
_CLOSERS = {")", "]", "\\}", "\\rangle", "\\rbrace"}


def clean(text: str) -> str:
    """The text in ASCII LaTeX: Unicode symbols replaced, sizing commands dropped, fraction variants united."""
    if len(text) > MAX_LENGTH:
        raise TooLarge(f"{len(text)} characters")
    if not text.isascii():
        for symbol, replacement in _UNICODE.items():
            if symbol in text:
                text = text.replace(symbol, replacement)
        text = _SUPER_RUN.sub(lambda m: "^{" + m.group().translate(_SUPER) + "}", text)
        text = _SUB_RUN.sub(lambda m: "_{" + m.group().translate(_SUB) + "}", text)
        text = text.translate(_WIDE_DIGITS)
    text = text.replace("\x00", "").replace("**", "^").replace("\\lt", "<").replace("\\gt", ">")
    text = text.replace("<=", "\\le ").replace(">=", "\\ge ").replace("!=", "\\ne ").replace("~=", "\\approx ")
    text = text.replace("\\lor", " or ").replace("\\vee", " or ").replace("\\land", " and ") if "\\" in text else text
    if "\\" in text or "{" in text or "~" in text:
        text = _DROP.sub(" ", text)
        for pattern, replacement in _SAME:
            text = pattern.sub(replacement, text)
    if any(ending in text for ending in _ORDINALS):
        text = _ORDINAL.sub(r"\\text{ \1}", text)
    return text.strip()


def _fraction(text: str) -> Fraction:
    if len(text) <= MAX_DIGITS and text.isdecimal():
        return Fraction(int(text))
    mantissa, _, exponent = text.replace("E", "e").partition("e")
    if len(mantissa) > MAX_DIGITS or abs(int(exponent or 0)) > MAX_DIGITS:
        raise TooLarge("a number with too many digits")
    return Fraction(text if text[-1] != "." else text[:-1])


def _repeating(match: re.Match[str]) -> Fraction:
    whole, fixed, cycle = match.group(1) or "0", match.group(2), match.group(3) or match.group(4) or match.group(5)
    if len(whole) + len(fixed) + len(cycle) > MAX_DIGITS:
        raise TooLarge("a number with too many digits")
    scale = 10 ** len(fixed)
    return Fraction(int(whole + fixed), scale) + Fraction(int(cycle), scale * (10 ** len(cycle) - 1))


def _after_value(tokens: list[Token]) -> bool:
    """Whether what stands before may be a value with a unit behind it."""
    return bool(tokens) and (tokens[-1].kind in ("num", "text") or tokens[-1].text == "}")


def braced(text: str, at: int) -> tuple[str, int]:
    """The group that opens at `at`, and the position behind it."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if depth == 0:
                return text[at + 1 : match.start()], match.end()
    raise NotMath("a brace is not closed")


def tokenize(text: str, *, grouping: bool = True) -> list[Token]:
    """Tokens of a cleaned text. With `grouping`, `1,200` outside parentheses is the number 1200."""
    tokens: list[Token] = []
    depth = 0
    at = 0
    spaced = False
    special = {m.start(): m for m in _REPEATING.finditer(text)} if "\\" in text or "(" in text else {}
    mixed = {m.start(): m for m in _MIXED.finditer(text)} if "/" in text else {}
    grouped = {m.start(): m for m in _GROUPED.finditer(text)} if grouping and "," in text else {}
    if grouping and " " in text:
        grouped |= {m.start(): m for m in _SPACED_GROUPS.finditer(text)}
    while at < len(text):
        if len(tokens) > MAX_TOKENS:
            raise TooLarge("too many tokens")
        if (found := special.get(at)) is not None:
            tokens.append(Token("num", found.group(), spaced, _repeating(found)))
            at, spaced = found.end(), False
            continue
        if (found := mixed.get(at)) is not None and int(found.group(2)) < int(found.group(3)):
            value = int(found.group(1)) + Fraction(int(found.group(2)), int(found.group(3)))
            tokens.append(Token("num", found.group(), spaced, value))
            at, spaced = found.end(), False
            continue
        if depth == 0 and (found := grouped.get(at)) is not None:
            digits = found.group().replace(",", "").replace(" ", "")
            tokens.append(Token("num", found.group(), spaced, _fraction(digits)))
            at, spaced = found.end(), False
            continue
        match = _TOKEN.match(text, at)
        if match is None:  # cannot be: `other` takes any character
            raise NotMath("unreadable")
        kind, piece = str(match.lastgroup), match.group()
        at = match.end()
        if kind == "space":
            spaced = True
            continue
        if kind == "num":
            tokens.append(Token("num", piece, spaced, _fraction(piece)))
        elif kind == "text":
            at = _text(text, piece.strip().rstrip("*"), at, spaced, tokens)
        elif kind == "word":
            tokens.append(Token("word", piece, spaced))
        elif kind == "cmd" or (kind == "esc" and piece in ("\\{", "\\}", "\\%", "\\$", "\\|", "\\\\", "\\&", "\\#")):
            depth += (piece in _OPENERS) - (piece in _CLOSERS)
            tokens.append(Token("cmd", piece, spaced))
        elif kind == "esc":
            raise NotMath(f"unknown escape {piece[:10]!r}")
        else:
            depth += (piece in _OPENERS) - (piece in _CLOSERS)
            tokens.append(Token("op", piece, spaced))
        spaced = False
    return tokens


def _text(text: str, command: str, at: int, spaced: bool, tokens: list[Token]) -> int:
    r"""A text command: its words become one `text` token; numbers and maths inside are read as if outside."""
    if at >= len(text) or text[at] != "{":
        if command in ("\\rm", "\\bf", "\\it"):
            return at
        content, end = (text[at : at + 1], at + 1)
    else:
        content, end = braced(text, at)
    if command in ("\\mathbb", "\\mathcal", "\\mathscr", "\\mathfrak"):
        tokens.append(Token("cmd", f"{command}{{{content.strip()}}}", spaced))
        return end
    inner = content.replace("~", " ").strip()
    outer_space = spaced or content[:1].isspace()
    if not inner or inner in ".,":
        return end
    symbolic = not command.startswith(("\\text", "\\mbox", "\\hbox", "\\emph"))
    if re.search(r"[\d\\^_=+*/%$<>()\[\]:,;|{}]", inner):
        spliced = tokenize(inner)
        if spliced and outer_space:
            spliced[0] = Token(spliced[0].kind, spliced[0].text, True, spliced[0].value)
        labels = not symbolic or (
            command in ("\\mathrm", "\\rm")
            and _after_value(tokens)
            and all(t.text in _SI for t in spliced if t.kind == "word")
        )
        tokens.extend(Token("text", t.text, t.spaced) if t.kind == "word" and labels else t for t in spliced)
    elif symbolic and (len(inner) == 1 or command in ("\\mathbf", "\\boldsymbol", "\\bm", "\\mathit")):
        after_number = bool(tokens) and tokens[-1].kind == "num"
        upright = command in ("\\mathrm", "\\rm", "\\operatorname")
        tokens.append(Token("text" if after_number and upright and inner not in "ei" else "word", inner, outer_space))
    elif symbolic and inner.isalpha() and command in ("\\operatorname", "\\mathrm"):
        tokens.append(Token("word" if command == "\\operatorname" else "text", inner, outer_space))
    else:
        tokens.append(Token("text", " ".join(inner.split()), outer_space))
    return end
