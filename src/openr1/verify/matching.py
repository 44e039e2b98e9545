"""Are two answers the same? Structure by structure, with True, False or None for 'cannot tell here'.

`leaf` compares two expressions: `openr1.verify.algebra.compare` in the caller's process, a stronger one in a worker.
The gold comes first everywhere: percent signs, bare pairs and equations are not symmetric (docs/grading.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from openr1.verify.algebra import canonical
from openr1.verify.answer import Answer, rational_value
from openr1.verify.grammar import Tree, num
from openr1.verify.lexer import NotMath
from openr1.verify.regions import REALS, as_region, half_line, surely_interval

Leaf = Callable[[Tree, Tree], bool | None]
_SYMBOL = re.compile(r"\\?[A-Za-z]+(?:_\w+)?'*")
_SERIES = frozenset({"list", "set"})


def every(results: Sequence[bool | None]) -> bool | None:
    """And, where None is 'cannot tell'."""
    if any(result is False for result in results):
        return False
    return None if any(result is None for result in results) else True


def either(*results: bool | None) -> bool | None:
    """Or, where None is 'cannot tell'."""
    if any(result is True for result in results):
        return True
    return None if any(result is None for result in results) else False


def same(gold: Answer, pred: Answer, leaf: Leaf) -> bool | None:
    """Whether `pred` answers `gold`."""
    if gold.lhs and pred.lhs and gold.lhs != pred.lhs:
        left, right = _as_equation(gold), _as_equation(pred)
        return proportional(left, right, leaf) if left and right else False
    if gold.tree == REALS or pred.tree == REALS:
        return gold.tree == pred.tree or (gold.kind != pred.kind and _regions(gold, pred, leaf))
    if gold.kind == "equation" or pred.kind == "equation":
        return _equations(gold, pred, leaf)
    if gold.kind == pred.kind == "scalar":
        return scalars(gold, pred, leaf)
    if gold.kind == pred.kind == "time":
        return gold.text == pred.text and (gold.unit is None or pred.unit is None or gold.unit == pred.unit)
    if gold.kind == pred.kind == "inequality":
        return gold.text == pred.text and _proportional(gold.tree, pred.tree, positive=True)
    if gold.kind == pred.kind == "matrix":
        shape = gold.rows == pred.rows and len(gold.items) == len(pred.items) and gold.brackets == pred.brackets
        return shape and _in_order(gold.items, pred.items, leaf)
    if "ratio" in (gold.kind, pred.kind):
        return _ratios(gold, pred, leaf)
    if {gold.kind, pred.kind} & {"region", "minus"} or (gold.kind == pred.kind == "tuple" and _intervals(gold, pred)):
        return _regions(gold, pred, leaf)
    return _series(gold, pred, leaf)


def scalars(gold: Answer, pred: Answer, leaf: Leaf) -> bool | None:
    """Values with units and percent signs; the gold's side decides what a missing percent sign may mean."""
    assert gold.tree is not None and pred.tree is not None
    if (
        gold.unit
        and pred.unit
        and gold.unit != pred.unit
        and {gold.unit, pred.unit} not in ({"deg", "degc"}, {"deg", "degf"})
    ):
        return False
    if (gold.percent and pred.unit) or (gold.unit and pred.percent):
        return False
    plain = leaf(gold.tree, pred.tree)
    if gold.percent == pred.percent:
        return plain
    if gold.percent:
        return either(plain, leaf(("div", gold.tree, num(100)), pred.tree))
    value = rational_value(gold)
    fraction = value is not None and -1 < value < 1 and value.denominator != 1
    as_value = leaf(gold.tree, ("div", pred.tree, num(100)))
    return as_value if fraction else either(as_value, plain)


def _as_equation(answer: Answer) -> Tree | None:
    """`x = v` as x - v, where x is one symbol; an equation as it is."""
    if answer.kind == "equation":
        return answer.tree
    if answer.kind == "scalar" and answer.lhs and answer.tree is not None and _SYMBOL.fullmatch(answer.lhs):
        return ("add", ("sym", answer.lhs), ("neg", answer.tree))
    return None


def _equations(gold: Answer, pred: Answer, leaf: Leaf) -> bool | None:
    left, right = _as_equation(gold), _as_equation(pred)
    if left is not None and right is not None:
        return proportional(left, right, leaf)
    if pred.kind == "equation" and pred.text == "names" and gold.lhs is None:
        return same(gold, pred.items[0], leaf)
    return False


def proportional(left: Tree, right: Tree, leaf: Leaf) -> bool | None:
    """Whether `left = 0` and `right = 0` are one equation up to a constant factor."""
    found = _proportional(left, right, positive=False)
    return found if found is not None else (True if leaf(left, right) else None)


def _proportional(left: Tree | None, right: Tree | None, *, positive: bool) -> bool | None:
    if left is None or right is None:
        return False
    try:
        a, b = canonical(left), canonical(right)
    except NotMath:
        return None
    ratio: Fraction | None = None
    if set(a.num) == set(b.num) and a.num and a.den == b.den:
        ratios = {Fraction(a.num[mono]) / b.num[mono] for mono in a.num}
        ratio = ratios.pop() if len(ratios) == 1 else None
    if ratio is not None:
        return ratio > 0 or not positive
    if a.den != b.den and not positive:
        return True if not (a + b.negative()).num else None
    return None if a.opaque or b.opaque else False


def _in_order(gold: Sequence[Answer], pred: Sequence[Answer], leaf: Leaf) -> bool | None:
    if len(gold) != len(pred):
        return False
    return every([same(g, p, leaf) for g, p in zip(gold, pred, strict=True)])


def _any_order(gold: Sequence[Answer], pred: Sequence[Answer], leaf: Leaf) -> bool | None:
    """A one-to-one match, whatever the order."""
    if len(gold) != len(pred):
        return False
    left = list(pred)
    unsure: list[Answer] = []
    for g in gold:
        results = [same(g, p, leaf) for p in left]
        if True in results:
            left.pop(results.index(True))
        elif None in results:
            unsure.append(g)
        else:
            return False
    return None if unsure else True


def _unique(items: Sequence[Answer], leaf: Leaf) -> list[Answer]:
    kept: list[Answer] = []
    for item in items:
        if not any(same(item, other, leaf) is True for other in kept):
            kept.append(item)
    return kept


def _ratios(gold: Answer, pred: Answer, leaf: Leaf) -> bool | None:
    """3:4 is 6:8, and 3/4; a clock time stays one."""
    left, right = _parts(gold), _parts(pred)
    if left is None or right is None or len(left) != len(right):
        return False
    return every([leaf(("mul", left[0], b), ("mul", right[0], a)) for a, b in zip(left[1:], right[1:], strict=True)])


def _parts(answer: Answer) -> list[Tree] | None:
    if answer.kind == "time" and answer.unit is None:
        return [num(int(part)) for part in answer.text.split(":")]
    if answer.kind == "scalar" and answer.tree is not None and not answer.percent:
        return [answer.tree, num(1)]
    trees = [item.tree for item in answer.items if item.kind == "scalar" and item.tree is not None]
    return trees if answer.kind == "ratio" and len(trees) == len(answer.items) else None


def _intervals(gold: Answer, pred: Answer) -> bool:
    return surely_interval(gold) and surely_interval(pred) and len(gold.items) == len(pred.items) == 2


def _complement(answer: Answer) -> Answer | None:
    r"""`\mathbb{R} \setminus \{a, b\}` as a region."""
    whole, holes = answer.items
    if whole.tree != REALS or holes.kind != "set" or len(holes.items) != 1:
        return None
    point = holes.items[0].tree
    return half_line("", "!=", point) if point is not None else None


def _regions(gold: Answer, pred: Answer, leaf: Leaf) -> bool | None:
    if gold.kind == pred.kind == "minus":
        return _in_order(gold.items, pred.items, leaf)
    if gold.kind == "minus":
        return _regions(found, pred, leaf) if (found := _complement(gold)) else False
    if pred.kind == "minus":
        return _regions(gold, found, leaf) if (found := _complement(pred)) else False
    if gold.kind == "tuple" and not surely_interval(gold):  # (1,2) may be a pair, 1 < x < 2 is none
        return False
    left, right = as_region(gold), as_region(pred)
    if left is None or right is None:
        return False
    if left.variable and right.variable and left.variable != right.variable:
        return False
    for answer, other in ((gold, right), (pred, left)):
        if answer.lhs and other.variable and answer.lhs != other.variable:
            return False
    if len(left.items) != len(right.items):
        return False
    brackets = [a.brackets == b.brackets for a, b in zip(left.items, right.items, strict=True)]
    ends = [_in_order(a.items, b.items, leaf) for a, b in zip(left.items, right.items, strict=True)]
    return every([*brackets, *ends])


def _series(gold: Answer, pred: Answer, leaf: Leaf) -> bool | None:
    """Lists, sets and tuples against each other and against single values."""
    named = _named(gold), _named(pred)
    if named[0] is not None or named[1] is not None:
        return _assignments(gold, pred, named, leaf)
    if gold.kind in _SERIES and pred.kind in _SERIES:
        if "set" in (gold.kind, pred.kind) and len(gold.items) != len(pred.items):
            return _any_order(_unique(gold.items, leaf), _unique(pred.items, leaf), leaf) if gold.items else False
        return _any_order(gold.items, pred.items, leaf)
    if gold.kind == "tuple" and pred.kind == "tuple":
        return gold.brackets == pred.brackets and _in_order(gold.items, pred.items, leaf)
    if gold.kind == "tuple" and pred.kind == "list" and gold.brackets in ("()", "[]"):
        if pred.lhs or pred.text == "or" or (len(gold.items) == 2 and surely_interval(gold)):
            return False
        return _in_order(gold.items, pred.items, leaf)
    if gold.kind == "list" and pred.kind == "tuple" and pred.brackets == "[]" and len(gold.items) != 2:
        return _in_order(gold.items, pred.items, leaf)
    for one, many in ((gold, pred), (pred, gold)):
        single = many.kind == "set" or (many.kind == "tuple" and many.brackets == "[]") or many.kind == "list"
        if one.kind == "scalar" and single and len(many.items) == 1:
            item = many.items[0]
            return same(gold, item, leaf) if one is gold else same(item, pred, leaf)
        if one.kind == "scalar" and many.kind == "list" and len(_unique(many.items, leaf)) == 1 and one is pred:
            return same(many.items[0], pred, leaf)
    return False


def _named(answer: Answer) -> dict[str, Answer] | None:
    """Different names with their values: `x = 1, y = 2` and `(x, y) = (1, 2)`."""
    if answer.kind == "list" and answer.items and all(item.lhs for item in answer.items):
        names = {item.lhs or "": item for item in answer.items}
        return names if len(names) == len(answer.items) else None
    if answer.kind == "tuple" and answer.lhs and answer.lhs.startswith("(") and answer.lhs.endswith(")"):
        parts = answer.lhs[1:-1].split(",")
        if len(parts) == len(answer.items) and len(set(parts)) == len(parts):
            return dict(zip(parts, answer.items, strict=True))
    return None


def _assignments(
    gold: Answer, pred: Answer, named: tuple[dict[str, Answer] | None, dict[str, Answer] | None], leaf: Leaf
) -> bool | None:
    left, right = named
    if left is not None and right is not None:
        if set(left) != set(right):
            return False
        return every([same(_bare(left[name]), _bare(right[name]), leaf) for name in left])
    known, other = (left, pred) if left is not None else (right, gold)
    assert known is not None
    if (
        other.kind == "list"
        and other.lhs
        and all(re.fullmatch(rf"{re.escape(other.lhs)}_\d+", name) for name in known)
    ):
        values = [_bare(item) for item in known.values()]  # x_1 = 1, x_2 = 2 against x = 1 or x = 2: roots
        return _any_order(values, other.items, leaf) if left is not None else _any_order(other.items, values, leaf)
    if other.kind not in ("list", "tuple") or (other.kind == "tuple" and other.brackets != "()") or other.lhs:
        return False
    if other.text == "or" or (right is not None and pred.kind == "tuple" and other.kind == "list"):
        return False
    source = gold if left is not None else pred
    names = list(known) if source.kind == "tuple" else sorted(known)
    values = [_bare(known[name]) for name in names]
    return _in_order(values, other.items, leaf) if left is not None else _in_order(other.items, values, leaf)


def _bare(answer: Answer) -> Answer:
    return Answer(**{name: getattr(answer, name) for name in Answer.__dataclass_fields__ if name != "lhs"})
