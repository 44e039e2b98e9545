"""Sets of real numbers: intervals, half lines, inequalities in one variable, and unions of them."""

from __future__ import annotations

from openr1.verify.answer import Answer
from openr1.verify.approximate import value_of
from openr1.verify.grammar import Tree, contains, num, symbols
from openr1.verify.lexer import Unsupported, UnsupportedRelation

INFINITY: Tree = ("sym", "\\infty")
REALS: Tree = ("sym", "\\mathbb{R}")
_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def interval(variable: str | None, low: Tree, open_low: bool, high: Tree, open_high: bool) -> Answer:
    piece = Answer(
        "piece",
        items=(Answer("scalar", tree=low), Answer("scalar", tree=high)),
        brackets=("(" if open_low or _infinite(low) else "[") + (")" if open_high or _infinite(high) else "]"),
    )
    return Answer("region", items=(piece,), variable=variable)


def half_line(variable: str, op: str, bound: Tree) -> Answer:
    if op == "!=":
        below = interval(variable, ("neg", INFINITY), True, bound, True)
        above = interval(variable, bound, True, INFINITY, True)
        return Answer("region", items=below.items + above.items, variable=variable)
    if op in ("<", "<="):
        return interval(variable, ("neg", INFINITY), True, bound, op == "<")
    return interval(variable, bound, op == ">", INFINITY, True)


def _infinite(tree: Tree) -> bool:
    return contains(tree, "sym", "\\infty")


def as_region(answer: Answer) -> Answer | None:
    """A two-element tuple read as an interval; a region stays one; a set in a union becomes its points."""
    if answer.kind == "region":
        return answer
    if answer.kind == "scalar" and answer.tree == REALS:
        return interval(None, ("neg", INFINITY), True, INFINITY, True)
    if answer.kind == "tuple" and len(answer.items) == 2 and answer.brackets in ("()", "[]", "(]", "[)"):
        low, high = answer.items
        if low.kind == high.kind == "scalar" and low.tree is not None and high.tree is not None:
            return interval(None, low.tree, answer.brackets[0] == "(", high.tree, answer.brackets[1] == ")")
    if answer.kind == "set":
        points = [item.tree for item in answer.items if item.kind == "scalar" and item.tree is not None]
        if len(points) == len(answer.items):
            pieces = tuple(interval(None, point, False, point, False).items[0] for point in points)
            return Answer("region", items=pieces)
    return None


def surely_interval(answer: Answer) -> bool:
    """Whether brackets alone say that this is an interval and no pair: half open, closed, infinite, or `x \\in`."""
    if answer.kind == "region" or answer.text == "in" or answer.brackets in ("(]", "[)", "[]"):
        return True
    return any(item.tree is not None and _infinite(item.tree) for item in answer.items)


def _value(tree: Tree) -> float:
    """A number to sort endpoints by."""
    if _infinite(tree):
        return float("-inf") if tree[0] == "neg" else float("inf")
    value = value_of(tree)
    if value is None:
        raise Unsupported("an endpoint")
    return value.real


def union(parts: list[Answer]) -> Answer:
    regions = [as_region(part) for part in parts]
    if any(region is None for region in regions):
        raise UnsupportedRelation("a union of what are no intervals")
    pieces = [piece for region in regions if region is not None for piece in region.items]
    pieces.sort(key=lambda p: (_value(p.items[0].tree or num(0)), _value(p.items[1].tree or num(0))))
    variables = {region.variable for region in regions if region is not None}
    return Answer("region", items=tuple(pieces), variable=variables.pop() if len(variables) == 1 else None)


def intersection(parts: list[Answer]) -> Answer:
    """Of inequalities in one variable: `x > 1` and `x < 2`."""
    if any(len(part.items) != 1 for part in parts):
        raise UnsupportedRelation("an intersection of unions")
    lows = [
        (_value(p.items[0].items[0].tree or num(0)), p.items[0].brackets[0] == "(", p.items[0].items[0].tree)
        for p in parts
    ]
    highs = [
        (_value(p.items[0].items[1].tree or num(0)), p.items[0].brackets[1] == "[", p.items[0].items[1].tree)
        for p in parts
    ]
    low = max(lows, key=lambda item: (item[0], item[1]))
    high = min(highs, key=lambda item: (item[0], item[1]))
    open_high = any(
        value == high[0] and part.items[0].brackets[1] == ")" for (value, _, _), part in zip(highs, parts, strict=True)
    )
    if low[0] > high[0]:
        return Answer("set")
    return interval(parts[0].variable, low[2] or num(0), low[1], high[2] or num(0), open_high)


def inequality(ops: list[str], trees: list[Tree]) -> Answer:
    """`a < x \\le b` and the like as a region of one variable, or a relation of two expressions."""
    bare = [tree[0] == "sym" and tree[1] not in ("\\pi", "e", "i", "\\infty") for tree in trees]
    if len(ops) == 1 and bare[1] and not bare[0]:
        trees, ops, bare = trees[::-1], [_FLIP[ops[0]]], bare[::-1]
    if len(ops) == 1 and bare[0] and not symbols(trees[1]) and ops[0] != "=":
        return half_line(trees[0][1], ops[0], trees[1])
    if len(ops) == 2 and bare[1] and not symbols(trees[0]) and not symbols(trees[2]):
        if ops[0] in ("<", "<=") and ops[1] in ("<", "<="):
            return interval(trees[1][1], trees[0], ops[0] == "<", trees[2], ops[1] == "<")
        if ops[0] in (">", ">=") and ops[1] in (">", ">="):
            return interval(trees[1][1], trees[2], ops[1] == ">", trees[0], ops[0] == ">")
    if len(ops) == 1:
        op, left, right = ops[0], trees[0], trees[1]
        if op in (">", ">="):
            op, left, right = _FLIP[op], right, left
        return Answer("inequality", tree=("add", left, ("neg", right)), text=op)
    raise UnsupportedRelation("a chain of relations")
