r"""Exact comparison of expressions without a computer algebra system.

Every tree becomes a quotient of two polynomials with rational coefficients over generators: variables, π, e, i, roots
of primes, logarithms of primes, exponentials. Roots of distinct primes are linearly independent over the rationals
(Besicovitch 1940), so over these generators zero means zero. Whatever else appears (sin x, nested roots) becomes
an *opaque* generator: equal forms are then still equal, but a difference proves nothing, and `compare` answers None
unless the two also differ numerically by far more than rounding can explain.
"""

from __future__ import annotations

from fractions import Fraction

from openr1.verify.approximate import numerically_different
from openr1.verify.forms import BUDGET, Form, constant, generator, within_limits, work
from openr1.verify.functions import function, power
from openr1.verify.grammar import Tree, contains
from openr1.verify.lexer import NotMath, TooLarge


def canonical(tree: Tree) -> Form:
    """The normal form of a tree. Raises NotMath or TooLarge."""
    kind = tree[0]
    if kind == "num":
        return Form(within_limits(constant(tree[1])))
    if kind == "sym":
        return _symbol(tree[1])
    if kind == "neg":
        return canonical(tree[1]).negative()
    if kind == "add":
        return canonical(tree[1]) + canonical(tree[2])
    if kind == "mul":
        return canonical(tree[1]) * canonical(tree[2])
    if kind == "div":
        return canonical(tree[1]) * canonical(tree[2]).inverse()
    if kind == "pow":
        return power(canonical(tree[1]), canonical(tree[2]), principal=True)
    if kind == "root":
        degree = canonical(tree[2])
        n = degree.rational()
        if n is not None and n.denominator == 1 and n > 0:
            return power(canonical(tree[1]), Form(constant(Fraction(1, n.numerator))), principal=n % 2 == 0)
        return power(canonical(tree[1]), degree.inverse(), principal=True)
    if kind == "fn":
        return function(tree[1], [canonical(arg) for arg in tree[2:]])
    raise NotMath(f"{kind} has no single value")


def _symbol(name: str) -> Form:
    if name == "i":
        return generator(("i",))
    if name == "\\infty":
        return generator(("inf",), opaque=True)
    return generator(("v", name))


_FORMS: dict[int, tuple[Tree, Form]] = {}
_MAX_FORMS = 4096


def _form(tree: Tree) -> Form:
    """The canonical form, remembered by the tree's identity (a gold meets many answers)."""
    found = _FORMS.get(id(tree))
    if found is not None and found[0] is tree:
        return found[1]
    form = canonical(tree)
    if len(_FORMS) >= _MAX_FORMS:
        _FORMS.clear()
    _FORMS[id(tree)] = (tree, form)
    return form


def canonical_within_budget(tree: Tree) -> Form:
    """`canonical`, with the work of one comparison allowed."""
    work.left = BUDGET
    return _form(tree)


def forget_forms() -> None:
    """Empty the memory of canonical forms; for measurements."""
    _FORMS.clear()


def _infinite_sign(tree: Tree) -> int | None:
    """1 for infinity, -1 for its negative, None for all else: infinity is a value, but no number to reckon with."""
    if tree == ("sym", "\\infty"):
        return 1
    return -1 if tree == ("neg", ("sym", "\\infty")) else None


def compare(a: Tree, b: Tree) -> bool | None:
    """Whether two expressions are equal; None where this module cannot tell."""
    work.left = BUDGET
    forms: tuple[Form, Form] | None = None
    fault: Exception | None = None
    try:
        forms = _form(a), _form(b)
    except (NotMath, ValueError, OverflowError, RecursionError) as error:  # also integers beyond Python's own limits
        fault = error
    sure = forms is not None and not (forms[0].opaque or forms[1].opaque)  # infinity is opaque
    if not sure and (contains(a, "sym", "\\infty") or contains(b, "sym", "\\infty")):
        return _infinite_sign(a) == _infinite_sign(b) is not None
    if a == b:
        return True
    if forms is not None:
        try:
            if not (forms[0] + forms[1].negative()).num:
                return True
            if sure:
                return False
        except (NotMath, ValueError, OverflowError, RecursionError) as error:
            fault = error
    if isinstance(fault, NotMath) and not isinstance(fault, TooLarge):
        return False  # one of them has no value: division by zero
    return False if numerically_different(a, b) else None
