r"""Answers as structures: scalars with units, lists, sets, tuples, intervals, relations, matrices, times.

`read` turns a text into an `Answer`; what the expression grammar cannot take raises NotMath and is compared as text.
"""

from __future__ import annotations

import re
from typing import Any

from openr1.verify.algebra import compare
from openr1.verify.answer import Answer
from openr1.verify.brackets import OPEN, expression, partner, split, trim
from openr1.verify.grammar import Tree, num, symbols
from openr1.verify.lexer import NotMath, Token, TooLarge, Unsupported, UnsupportedRelation, clean, tokenize
from openr1.verify.quantity import scalar
from openr1.verify.regions import inequality, intersection, union
from openr1.verify.text import plain, strip_math_delimiters

_RELATIONS = {
    "=": "=", "<": "<", ">": ">", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "\\ge": ">=", "\\geq": ">=",
    "\\geqslant": ">=", "\\ne": "!=", "\\neq": "!=", "\\in": "in", "\\approx": "~", "\\simeq": "~", "\\sim": "~",
    "\\equiv": "=", "\\Rightarrow": "=>", "\\implies": "=>", "\\to": "=>", "\\rightarrow": "=>", "\\cong": "=",
    "\\colon": ":", "\\longrightarrow": "=>", "\\iff": "=>", "\\Leftrightarrow": "=>",
}  # fmt: skip
_JOINTS = frozenset({*_RELATIONS, "\\cup", "\\bigcup", "\\setminus", "\\backslash", ":"})
_SEPARATORS = {",", ";"}
_EMPTY = frozenset({"\\emptyset", "\\varnothing", "\\O"})
_TIME = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap])?\.?\s*(?:m\.?)?$", re.IGNORECASE)
_CLOCK = re.compile(r"[ap]\.?\s*m\.?\s*\}?$", re.IGNORECASE)
_HOUR = re.compile(r"^(\d{1,2})\s*([ap])\.?\s*m\.?$", re.IGNORECASE)
_MATRIX = re.compile(
    r"\\begin\{([pbvBV]?matrix|array|smallmatrix)\*?\}(?:\{[lcr|\s]*\})?(.*)\\end\{\1\*?\}", re.DOTALL
)
_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore|then)[, ]+)?(?:the\s+)?(?:(?:final|correct)\s+)?(?:answer|result|value|solution)"
    r"s?(?:\s+(?:is|are))?\s*[:=]?\s*",
    re.IGNORECASE,
)
_LEAD_TEXT = re.compile(r"^(\\(?:text|textbf|textrm|mathrm|mbox)\s*\{)\s*" + _LEAD.pattern[1:], re.IGNORECASE)
_INNER_MATH = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$")
_COMPOUND = re.compile(  # 2 hours 30 minutes
    r"(?<=[\s{\d])(hours?|hrs?|h|minutes?|mins?|days?|weeks?|years?|months?|feet|foot|ft|pounds?|lbs?|dollars?|degrees?)"
    r"(?:\s+and)?(\s*\}\s*|\s+)(?=(?:\\text\s*\{\s*)?\d)"
)
MAX_ITEMS = 100


def read(text: str, *, grouping: bool = True) -> Answer:
    """The structure of an answer; NotMath (TooLarge, Unsupported) where there is none in the grammar."""
    text = strip_math_delimiters(text)
    text = clean(text)
    for _ in range(3):
        text = strip_math_delimiters(text).strip().rstrip(".").strip() if not text.endswith("\\.") else text
    if text[:1].isalpha():
        text = _LEAD.sub("", text, count=1)
    elif text.startswith(("\\text", "\\math", "\\mbox")):
        text = _LEAD_TEXT.sub(r"\1", text, count=1)
    if "$" in text:
        text = _without_inner_dollars(text)
    time = _time(plain(text)) if ":" in text or _CLOCK.search(text, len(text) - 8) else None
    if time is not None:
        return time
    if "\\begin" in text:
        return _matrix(text)
    if text[-1:].isalpha() or text[-1:] == "}":
        text = _COMPOUND.sub(r"\1\2 and ", text)
    tokens = tokenize(text, grouping=grouping)
    if not tokens:
        raise NotMath("nothing there")
    return interpret(tokens)


def _without_inner_dollars(text: str) -> str:
    """`$12\\pi$ square inches` without its dollars; where digits stand outside them, they are currency or a join."""
    outside = _INNER_MATH.sub(" ", text)
    if any(c.isdigit() for c in outside):
        return text
    return _INNER_MATH.sub(r"  \1  ", text).strip()


def _time(text: str) -> Answer | None:
    match = _TIME.match(text)
    if match and int(match.group(1)) <= 24 and int(match.group(2)) < 60:
        parts = f"{int(match.group(1))}:{match.group(2)}" + (f":{match.group(3)}" if match.group(3) else "")
        return Answer("time", text=parts, unit=(match.group(4) or "").lower() or None)
    match = _HOUR.match(text)
    if match and int(match.group(1)) <= 12:
        return Answer("time", text=f"{int(match.group(1))}:00", unit=match.group(2).lower())
    return None


def _matrix(text: str) -> Answer:
    match = _MATRIX.search(text)
    if not match or "\\begin" in match.group(2):
        raise Unsupported("an environment")
    before, after = text[: match.start()].strip(), text[match.end() :].strip()
    if (before[-1:], after) in (("(", ")"), ("[", "]"), ("|", "|")):
        before = before[:-1].strip()
    elif after:
        raise Unsupported("something behind a matrix")
    lhs = None
    if before:
        if not before.endswith("="):
            raise Unsupported("something before a matrix")
        lhs = _name(tokenize(before[:-1]))
    body = match.group(2).strip().removesuffix("\\\\")
    rows = [row.split("&") for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", body)]
    if len({len(row) for row in rows}) != 1 or len(rows) * len(rows[0]) > MAX_ITEMS:
        raise NotMath("rows of different length")
    items = tuple(interpret(tokenize(cell.replace("\\hline", "").strip())) for row in rows for cell in row)
    kind = "v" if after == "|" or match.group(1) in ("vmatrix", "Vmatrix") else "m"
    return Answer("matrix", lhs=lhs, items=items, rows=len(rows), brackets=kind)


def _is_separator(token: Token) -> bool:
    if token.kind in ("word", "text"):
        return token.text.strip(" ,").lower() in ("and", "or")
    return token.text in _SEPARATORS


def interpret(tokens: list[Token], depth: int = 0) -> Answer:
    """The structure of a token list."""
    if depth > 12:
        raise TooLarge("nested too deeply")
    tokens = trim(tokens)
    pieces = split(tokens, _is_separator)
    filled = [(sep, piece) for sep, piece in pieces if piece]
    if len(filled) > 1:
        if len(filled) > MAX_ITEMS:
            raise TooLarge("too many items")
        words = {sep.text.strip(" ,").lower() for sep, _ in filled[1:] if sep is not None}
        if any(sep is not None and sep.text == "or" for sep, _ in pieces):
            words.add("or")
        return _list([interpret(piece, depth + 1) for _, piece in filled], "or" in words)
    if not filled:
        raise NotMath("nothing there")
    tokens = filled[0][1]
    if _JOINTS.isdisjoint({token.text for token in tokens}):
        return _group(tokens, depth) or scalar(tokens)
    relation = split(tokens, lambda t: t.kind in ("op", "cmd") and t.text in _RELATIONS)
    if len(relation) > 1:
        return _relation(relation, depth)
    joined = split(tokens, lambda t: t.kind == "cmd" and t.text in ("\\cup", "\\bigcup"))
    if len(joined) > 1:
        return union([interpret(piece, depth + 1) for _, piece in joined])
    minus = split(tokens, lambda t: t.kind == "cmd" and t.text in ("\\setminus", "\\backslash"))
    if len(minus) == 2:
        left, right = (interpret(piece, depth + 1) for _, piece in minus)
        return Answer("minus", items=(left, right))
    ratio = split(tokens, lambda t: t.text == ":" and t.kind == "op")
    if len(ratio) > 1:
        return Answer("ratio", items=tuple(interpret(piece, depth + 1) for _, piece in ratio))
    return _group(tokens, depth) or scalar(tokens)


def _list(items: list[Answer], alternatives: bool) -> Answer:
    """Items joined by commas, semicolons, 'and', 'or'. Inequalities combine to a region; one name serves all."""
    regions = [item for item in items if item.kind == "region"]
    if len(regions) == len(items) and len({item.variable for item in regions}) == 1:
        return union(regions) if alternatives else intersection(regions)
    expanded = [part for item in items for part in _flatten(item)]
    names = [item.lhs for item in expanded]
    if names and names[0] and all(name in (names[0], None) for name in names):
        bare = tuple(Answer(**{**_fields(item), "lhs": None}) for item in expanded)
        return Answer("list", lhs=names[0], items=bare, text="or" if alternatives else "")
    return Answer("list", items=tuple(expanded), text="or" if alternatives else "")


def _flatten(item: Answer) -> tuple[Answer, ...]:
    if item.kind != "list":
        return (item,)
    return tuple(Answer(**{**_fields(part), "lhs": item.lhs}) if item.lhs else part for part in item.items)


def _fields(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__dataclass_fields__}


def _group(tokens: list[Token], depth: int) -> Answer | None:
    """A tuple, an interval or a set when one pair of brackets spans all tokens; else None."""
    opening = tokens[0].text if tokens[0].kind in ("op", "cmd") else ""
    if len(tokens) == 1 and opening in _EMPTY:
        return Answer("set")
    if opening == "]" and len(tokens) > 3 and tokens[-1].text in ("[", "]"):  # French: ]1,2[
        return _tuple("(", tokens[1:-1], ")" if tokens[-1].text == "[" else "]", depth)
    if opening == "[" and tokens[-1].text == "[" and len(tokens) > 3:
        return _tuple("[", tokens[1:-1], ")", depth)
    if opening not in ("(", "[", "\\{", "\\lbrace", "\\langle", "{") or partner(tokens) != len(tokens) - 1:
        return None
    inner = tokens[1:-1]
    if opening in ("\\{", "\\lbrace"):
        return _set(inner, depth)
    closing = tokens[-1].text
    if closing not in (")", "]", "\\rangle", "}"):
        raise NotMath("brackets do not match")
    if len(split(inner, lambda t: t.text in _SEPARATORS and t.kind == "op")) < 2:
        if opening == "(" and any(t.text in _RELATIONS or _is_separator(t) for t in inner if t.kind != "num"):
            return interpret(inner, depth + 1)
        if opening == "[" and closing == "]":
            return Answer("tuple", items=(interpret(inner, depth + 1),), brackets="[]")
        if opening == "(" and closing == ")" and inner and inner[0].text in OPEN:
            return _group(inner, depth + 1)
        return None
    return _tuple("(" if opening == "\\langle" else opening, inner, ")" if closing == "\\rangle" else closing, depth)


def _tuple(opening: str, inner: list[Token], closing: str, depth: int) -> Answer:
    parts = split(inner, lambda t: t.text in _SEPARATORS and t.kind == "op")
    items = tuple(interpret(piece, depth + 1) for _, piece in parts)
    return Answer("tuple", items=items, brackets=opening + closing)


def _set(inner: list[Token], depth: int) -> Answer:
    if not inner:
        return Answer("set")
    bar = split(inner, lambda t: t.text in ("|", "\\mid", ":", "\\vert", "\\colon"))
    if len(bar) == 2 and (condition := bar[1][1]):
        name = bar[0][1][0].text
        kept = [
            piece
            for _, piece in split(condition, _is_separator)
            if piece
            and not (
                piece[0].text == name and len(piece) > 1 and piece[1].text == "\\in" and "mathbb" in piece[-1].text
            )
        ]
        if len(kept) != 1:
            raise UnsupportedRelation("a set builder")
        region = interpret(kept[0], depth + 1)
        if region.kind != "region":
            raise UnsupportedRelation("a set builder")
        return Answer(**{**_fields(region), "variable": None, "text": "set"})
    parts = [interpret(piece, depth + 1) for _, piece in split(inner, _is_separator) if piece]
    items = tuple(part for item in parts for part in _flatten(item))
    return Answer("set", items=items)


def _name(tokens: list[Token]) -> str | None:
    """The name that a left-hand side gives (`x`, `f(x)`, `(p,q)`, `AB`), or None when it is an expression."""
    tokens = trim(tokens)
    text = "".join(t.text for t in tokens).replace("{", "").replace("}", "").replace(" ", "")
    if not tokens or len(text) > 60 or text in ("\\pi", "\\infty", "i"):
        return None
    if all(t.kind == "text" or (t.kind == "word" and len(t.text) > 3) or t.text in (":", "-") for t in tokens):
        return text.rstrip(":").casefold()
    if re.fullmatch(r"\(?(?:\\?[A-Za-z]+(?:_\w+)?'*)(?:,\\?[A-Za-z]+(?:_\w+)?'*)*\)?", text) and text.count(
        "("
    ) == text.count(")"):
        if "," in text:
            return text if text.startswith("(") else None
        return text.strip("()")
    if re.fullmatch(r"\\?[A-Za-z]{1,8}(?:_\w+)?'*(?:\^-1|\^\(-1\)|\^\\prime|\^\w)?[(\[].{1,30}[)\]]", text):
        return text
    if re.fullmatch(r"(?:m?\\(?:angle|triangle|overline|vec|bar|hat|measuredangle)|\|)\(?[A-Za-z]{1,4}\)?\|?", text):
        return text
    if re.fullmatch(r"\\(?:sin|cos|tan|cot|sec|csc)(?:\\angle)?(?:\\[a-z]+|[A-Z]{1,3})", text):
        return text
    if re.fullmatch(r"\[[A-Z]{3,6}\]|\\frac(?:d|dy|df|d\^2y)(?:dx|dt|dx\^2)", text):
        return text
    return None


def _relation(parts: list[tuple[Token | None, list[Token]]], depth: int) -> Answer:
    ops = [_RELATIONS[sep.text] for sep, _ in parts if sep is not None]
    sides = [piece for _, piece in parts]
    if not all(sides):
        if not sides[0] and len(sides) == 2 and ops[0] in ("=", "~"):  # "= 5"
            return interpret(sides[1], depth + 1)
        raise NotMath("a relation lacks a side")
    if "=>" in ops:  # "x^2 = 4 => x = 2": what is concluded
        last = len(ops) - ops[::-1].index("=>")
        if (
            len(ops) == 1
            and ops[0] == "=>"
            and parts[1][0] is not None
            and parts[1][0].text in ("\\to", "\\rightarrow")
        ):
            raise UnsupportedRelation("an arrow")
        return (
            interpret(sides[last], depth + 1)
            if last == len(sides) - 1
            else _relation([(None, sides[last]), *parts[last + 1 :]], depth)
        )
    if "~" in ops:  # a ≈ b states a; x ≈ b states b
        first = ops.index("~")
        if first == 0 and _name(sides[0]) is not None:
            body = interpret(sides[1], depth + 1)
            return Answer(**{**_fields(body), "lhs": _name(sides[0])})
        return _relation(parts[: first + 1], depth) if first else interpret(sides[0], depth + 1)
    if ops == ["in"]:
        body = interpret(sides[1], depth + 1)
        return Answer(**{**_fields(body), "lhs": _name(sides[0]) or "", "text": "in"})
    if all(op == "=" for op in ops):
        return _equation(sides, depth)
    if ops == ["="] * (len(ops) - 1) + ["!="] and len(ops) > 1:
        raise UnsupportedRelation("mixed relations")
    return inequality(ops, [expression(side) for side in sides])


def _equation(sides: list[list[Token]], depth: int) -> Answer:
    name = _name(sides[0])
    body = interpret(sides[-1], depth + 1)
    if len(sides) > 2 or name is None:
        _consistent(sides[name is not None : -1], body)
    if name is not None:
        return Answer(**{**_fields(body), "lhs": name})
    if body.kind == "scalar" and body.tree is not None:
        if (last := _name(sides[-1])) is not None and len(sides) == 2 and _closed(sides[0]):  # "5 = x"
            return Answer(**{**_fields(interpret(sides[0], depth + 1)), "lhs": last})
        left = expression(sides[0])
        if not symbols(left) and not symbols(body.tree):  # "2+3 = 5": an evaluation
            return body
        return Answer("equation", tree=("add", left, ("neg", body.tree)), items=(body,), text=_plainness(left))
    raise UnsupportedRelation("an equation of structures")


def _consistent(sides: list[list[Token]], body: Answer) -> None:
    """NotMath where a chain of values contradicts itself: `6 = 5` states neither."""
    if body.kind != "scalar" or body.tree is None or symbols(body.tree):
        return
    value = ("div", body.tree, num(100)) if body.percent else body.tree
    for side in sides:
        if not _closed(side):
            continue
        left = expression(side)
        if compare(left, value) is False and (not body.percent or compare(left, body.tree) is False):
            raise NotMath("an equation that does not hold")


def _closed(tokens: list[Token]) -> bool:
    try:
        return not symbols(expression(tokens))
    except NotMath:
        return False


def _plainness(left: Tree) -> str:
    """`names` where a left-hand side is a sum or product of bare names (`a+b`, `xy`), so that `a+b = 5` answers 5."""
    stack = [left]
    while stack:
        node = stack.pop()
        if node[0] in ("add", "mul", "div"):
            stack.extend(node[1:])
        elif node[0] == "neg":
            stack.append(node[1])
        elif node[0] != "sym":
            return ""
    return "names"
