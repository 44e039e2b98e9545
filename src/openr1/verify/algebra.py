r"""Exact comparison of expressions without a computer algebra system.

Every tree becomes a quotient of two polynomials with rational coefficients over generators: variables, π, e, i, roots
of primes, logarithms of primes, exponentials. Roots of distinct primes are linearly independent over the rationals
(Besicovitch 1940), so over these generators zero means zero. Whatever else appears (sin x, nested roots) becomes
an *opaque* generator: equal forms are then still equal, but a difference proves nothing, and `compare` answers None
unless the two also differ numerically by far more than rounding can explain.
"""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from typing import Any

from openr1.verify.approximate import numerically_different
from openr1.verify.grammar import Tree, contains
from openr1.verify.lexer import NotMath, TooLarge

MAX_TERMS = 150
MAX_BITS = 60_000
MAX_POWER = 60
BUDGET = 6_000
_TRIAL = 5_000

Number = int | Fraction
Monomial = tuple[tuple[Any, Number], ...]
Poly = dict[Monomial, Number]
ONE: Monomial = ()
_UNIT: Poly = {ONE: 1}


class _Work(threading.local):
    """Term products left in this thread's current comparison: what bounds its time."""

    left = BUDGET


_work = _Work()


def lean(value: Number) -> Number:
    """Whole numbers as int: they are added, multiplied and hashed many times faster than a Fraction."""
    return value.numerator if value.denominator == 1 else value


def constant(value: Number) -> Poly:
    return {ONE: lean(value)} if value else {}


def _order(item: tuple[Any, Number]) -> str:
    return repr(item[0])


def _check(poly: Poly) -> Poly:
    if len(poly) > MAX_TERMS:
        raise TooLarge("too many terms")
    for value in poly.values():
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            raise TooLarge("too large a number")
    return poly


def add(a: Poly, b: Poly) -> Poly:
    result = dict(a)
    for mono, value in b.items():
        total = result.get(mono, 0) + value
        if total:
            result[mono] = total
        else:
            result.pop(mono, None)
    return _check(result)


def scale(a: Poly, factor: Number) -> Poly:
    return {mono: value * factor for mono, value in a.items()} if factor else {}


def _merge(a: Monomial, b: Monomial) -> tuple[Monomial, Number]:
    """Product of two monomials in normal form, and the rational factor that falls out (√2·√2 = 2, i² = -1)."""
    if not a or not b:
        return a or b, 1
    powers: dict[Any, Number] = dict(a)
    for gen, exponent in b:
        powers[gen] = powers.get(gen, 0) + exponent
    return _normal(powers)


def _normal(powers: dict[Any, Number]) -> tuple[Monomial, Number]:
    factor: Number = 1
    kept: dict[Any, Number] = {}
    for gen, exponent in powers.items():
        if gen[0] == "p":  # a prime: the whole part of its exponent is rational
            whole = math.floor(exponent)
            if abs(whole) * gen[1].bit_length() > MAX_BITS:
                raise TooLarge("too large a power")
            factor *= gen[1] ** whole if whole >= 0 else Fraction(1, gen[1] ** -whole)
            exponent -= whole
        elif gen[0] == "i":
            quarter = int(exponent) % 4
            factor *= -1 if quarter >= 2 else 1
            exponent = quarter % 2
        if exponent:
            kept[gen] = lean(exponent)
    items = tuple(kept.items())
    return (items if len(items) < 2 else tuple(sorted(items, key=_order))), factor


def multiply(a: Poly, b: Poly) -> Poly:
    _work.left -= len(a) * len(b)
    if _work.left < 0:
        raise TooLarge("too many terms")
    result: Poly = {}
    for mono_a, value_a in a.items():
        for mono_b, value_b in b.items():
            mono, factor = _merge(mono_a, mono_b)
            total = result.get(mono, 0) + value_a * value_b * factor
            if total:
                result[mono] = total
            else:
                result.pop(mono, None)
    return _check(result)


class Form:
    """A quotient of polynomials. `opaque`: some generator stands for something whose laws we do not know."""

    __slots__ = ("den", "num", "opaque")

    def __init__(self, num: Poly, den: Poly | None = None, opaque: bool = False) -> None:
        self.num = num
        self.den: Poly = {ONE: 1} if den is None else den
        self.opaque = opaque
        if not self.den:
            raise NotMath("division by zero")
        if len(self.den) == 1:  # a single term below moves up
            (mono, value), *_ = self.den.items()
            if mono != ONE or value != 1:
                inverse, factor = _normal({gen: -exponent for gen, exponent in mono})
                self.num = multiply(self.num, {inverse: lean(Fraction(factor) / value)})
                self.den = {ONE: 1}

    def rational(self) -> Number | None:
        """The value where it is a rational number."""
        if self.den != _UNIT:
            return None
        if not self.num:
            return 0
        return self.num.get(ONE) if len(self.num) == 1 else None

    def key(self) -> Any:
        """A hashable name of the form; equal keys are equal forms, the reverse need not hold."""
        lead = self.den[min(self.den, key=repr)]
        inverse = lean(Fraction(1) / lead)
        return (frozenset(scale(self.num, inverse).items()), frozenset(scale(self.den, inverse).items()))

    def __add__(self, other: Form) -> Form:
        opaque = self.opaque or other.opaque
        if self.den == other.den:
            return Form(add(self.num, other.num), self.den, opaque)
        num = add(multiply(self.num, other.den), multiply(other.num, self.den))
        return Form(num, multiply(self.den, other.den), opaque)

    def __mul__(self, other: Form) -> Form:
        den = multiply(self.den, other.den)
        return Form(multiply(self.num, other.num), den, self.opaque or other.opaque)

    def inverse(self) -> Form:
        return Form(self.den, self.num, self.opaque)

    def negative(self) -> Form:
        return Form(scale(self.num, -1), self.den, self.opaque)

    def power(self, n: int) -> Form:
        if abs(n) > MAX_POWER and self.rational() is None:
            raise TooLarge("too large a power")
        base = self if n >= 0 else self.inverse()
        value = base.rational()
        if value is not None:
            if (
                abs(n) * max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS
                and abs(value) != 1
            ):
                raise TooLarge("too large a power")
            return Form(constant(value ** abs(n)), opaque=self.opaque)
        result, n = Form(constant(1)), abs(n)
        while n:
            if n & 1:
                result = result * base
            n >>= 1
            if n:
                base = base * base
        return result


def _gen(gen: Any, exponent: Number = 1, opaque: bool = False) -> Form:
    mono, factor = _normal({gen: exponent})
    return Form({mono: factor}, opaque=opaque)


def factorize(n: int) -> tuple[dict[int, int], bool]:
    """Prime factors of n > 0, and whether they are all known to be prime."""
    found: dict[int, int] = {}
    for p in _primes():
        if p * p > n:
            break
        while n % p == 0:
            found[p] = found.get(p, 0) + 1
            n //= p
    if n == 1:
        return found, True
    for k in (2, 3):
        root = round(n ** (1 / k)) if n < 1 << 900 else 0
        if root > 1 and root**k == n and root < _TRIAL**2:
            found[root] = found.get(root, 0) + k
            return found, True
    found[n] = found.get(n, 0) + 1
    return found, n < _TRIAL**2


_PRIMES: list[int] = []


def _primes() -> list[int]:
    if not _PRIMES:
        sieve = bytearray([1]) * _TRIAL
        for p in range(2, _TRIAL):
            if sieve[p]:
                _PRIMES.append(p)
                sieve[p * p :: p] = bytes(len(range(p * p, _TRIAL, p)))
    return _PRIMES


def rational_power(base: Number, exponent: Number) -> Form:
    """base ** exponent for a positive rational base, over roots of primes."""
    powers: dict[Any, Number] = {}
    sure = True
    for part, sign in ((base.numerator, 1), (base.denominator, -1)):
        factors, known = factorize(part)
        sure &= known
        for p, k in factors.items():
            powers[("p", p)] = powers.get(("p", p), 0) + sign * k * exponent
    mono, factor = _normal(powers)
    return Form({mono: factor}, opaque=not sure)


def canonical(tree: Tree) -> Form:
    """The normal form of a tree. Raises NotMath or TooLarge."""
    kind = tree[0]
    if kind == "num":
        return Form(_check(constant(tree[1])))
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
        return _power(canonical(tree[1]), canonical(tree[2]), principal=True)
    if kind == "root":
        degree = canonical(tree[2])
        n = degree.rational()
        if n is not None and n.denominator == 1 and n > 0:
            return _power(canonical(tree[1]), Form(constant(Fraction(1, n.numerator))), principal=n % 2 == 0)
        return _power(canonical(tree[1]), degree.inverse(), principal=True)
    if kind == "fn":
        return _function(tree[1], [canonical(arg) for arg in tree[2:]])
    raise NotMath(f"{kind} has no single value")


def _symbol(name: str) -> Form:
    if name == "i":
        return _gen(("i",))
    if name == "\\infty":
        return _gen(("inf",), opaque=True)
    return _gen(("v", name))


def _power(base: Form, exponent: Form, *, principal: bool) -> Form:
    n = exponent.rational()
    if n is None:
        return _symbolic_power(base, exponent)
    if n.denominator == 1:
        if not base.num and n <= 0:
            raise NotMath("zero to the power of zero or less")
        return base.power(_small(n))
    value = base.rational()
    if value is not None:
        if value == 0:
            return Form({}) if n > 0 else Form({}, {})
        if value > 0:
            return rational_power(value, n)
        if n.denominator == 2 and principal:
            return rational_power(-value, n) * _gen(("i",), n.numerator)
        if not principal and n.denominator % 2:
            root = rational_power(-value, n)
            return root.negative() if n.numerator % 2 else root
    elif len(base.num) == 1 and base.den == _UNIT:
        (mono, coefficient), *_ = base.num.items()
        simple = len(mono) == 1 and coefficient > 0 and (mono[0][0][0] == "v" and mono[0][1] == 1)
        positive = coefficient > 0 and all(gen[0] == "p" or gen in (("v", "\\pi"), ("v", "e")) for gen, _ in mono)
        if simple or positive:
            raised = {gen: exp * n for gen, exp in mono}
            inner, factor = _normal(raised)
            return rational_power(coefficient, n) * Form({inner: factor})
    return _gen(("pow", base.key(), Fraction(1, n.denominator)), opaque=True).power(_small(n.numerator))


def _small(n: Number) -> int:
    if max(n, -n) > MAX_BITS:
        raise TooLarge("too large a power")
    return int(n)


def _symbolic_power(base: Form, exponent: Form) -> Form:
    """a**(x+1) = a**x · a, term by term, with the base in primes where it is a positive rational."""
    if exponent.den != _UNIT:
        return _gen(("pow", base.key(), exponent.key()), opaque=True)
    value = base.rational()
    parts: list[tuple[Any, int]] = []
    if value is not None and value > 0:
        for number, sign in ((value.numerator, 1), (value.denominator, -1)):
            parts += [(("p", p), sign * k) for p, k in factorize(number)[0].items()]
    else:
        parts = [(base.key(), 1)]
    result = Form(constant(1), opaque=True)
    for mono, coefficient in exponent.num.items():
        if mono == ONE:
            result = result * _power(base, Form(constant(coefficient)), principal=True)
            continue
        if mono == _I_PI and parts == [(_natural(), 1)] and (turn := _on_circle(coefficient)) is not None:
            result = result * turn
            continue
        for part, k in parts:
            result = result * _gen(("exp", part, mono), coefficient * k, opaque=True)
    return result


_I_PI: Monomial = ((("i",), 1), (("v", "\\pi"), 1))


def _natural() -> Any:
    """The key of e."""
    return _gen(("v", "e")).key()


def _on_circle(turn: Number) -> Form | None:
    """exp(i·turn·π) = cos + i sin, for the multiples of π/6 and π/4."""
    sine, cosine = _sine(turn), _sine(turn + Fraction(1, 2))
    return None if sine is None or cosine is None else cosine + sine * _gen(("i",))


def _sine(turn: Number) -> Form | None:
    """sin(turn·π) for multiples of π/6 and π/4, exactly."""
    turn %= 2
    sign = 1
    if turn >= 1:
        turn, sign = turn - 1, -1
    if turn > Fraction(1, 2):
        turn = 1 - turn
    squares: dict[Number, Number] = {
        Fraction(0): 0,
        Fraction(1, 6): Fraction(1, 4),
        Fraction(1, 4): Fraction(1, 2),
    }
    squares |= {Fraction(1, 3): Fraction(3, 4), Fraction(1, 2): 1}
    square = squares.get(turn)
    if square is None:
        return None
    value = rational_power(Fraction(square), Fraction(1, 2)) if square else Form({})
    return value.negative() if sign < 0 else value


def _turns(form: Form) -> Number | None:
    """The rational q with form = q·π."""
    if form.den != _UNIT:
        return None
    if not form.num:
        return 0
    if len(form.num) == 1:
        (mono, value), *_ = form.num.items()
        if mono == ((("v", "\\pi"), 1),):
            return value
    return None


def _function(name: str, args: list[Form]) -> Form:
    values = [arg.rational() for arg in args]
    known = [value for value in values if value is not None]
    first = values[0]
    if name in ("sin", "cos", "tan", "cot", "sec", "csc"):
        exact = _trigonometric(name, args[0]) or _by_exponentials(name, args[0])
        if exact is not None:
            return exact
    if name == "ln":
        exact = _logarithm(args[0], first)
        if exact is not None:
            return exact
    if first is not None:
        if name == "abs":
            return Form(constant(max(first, -first)))
        if name in ("floor", "ceil"):
            return Form(constant(math.floor(first) if name == "floor" else math.ceil(first)))
        if name == "sgn":
            return Form(constant((first > 0) - (first < 0)))
    integers = [int(value) for value in known if value.denominator == 1]
    if len(integers) == len(args):
        exact = _integer_function(name, integers)
        if exact is not None:
            return exact
    if name == "binom" and values[1] is not None and values[1].denominator == 1 and 0 <= values[1] <= 8:
        result = Form(constant(Fraction(1, math.factorial(int(values[1])))))
        for k in range(int(values[1])):
            result = result * (args[0] + Form(constant(-k)))
        return result
    if name in ("max", "min") and len(known) == len(args):
        return Form(constant(max(known) if name == "max" else min(known)))
    keys = [arg.key() for arg in args]
    return _gen(
        ("fn", name, tuple(sorted(keys, key=repr) if name in ("max", "min", "gcd", "lcm") else keys)), opaque=True
    )


def _by_exponentials(name: str, arg: Form) -> Form | None:
    """Euler: sin x = (E - 1/E) / 2i, cos x = (E + 1/E) / 2 with E = exp(ix), so that identities become algebra."""
    if arg.den != _UNIT or not arg.num or len(arg.num) > 4 or arg.opaque:
        return None
    forward = _symbolic_power(_gen(("v", "e")), arg * _gen(("i",)))
    backward = forward.inverse()
    cosine = (forward + backward) * Form(constant(Fraction(1, 2)))
    sine = (forward + backward.negative()) * _gen(("i",)) * Form(constant(Fraction(-1, 2)))
    top, bottom = {
        "sin": (sine, None), "cos": (cosine, None), "tan": (sine, cosine), "cot": (cosine, sine), "csc": (None, sine),
        "sec": (None, cosine),
    }[name]  # fmt: skip
    result = top or Form(constant(1))
    return result * bottom.inverse() if bottom is not None else result


def _trigonometric(name: str, arg: Form) -> Form | None:
    turn = _turns(arg)
    if turn is None:
        return None
    sine, cosine = _sine(turn), _sine(turn + Fraction(1, 2))
    if sine is None or cosine is None:
        return None
    if name in ("sin", "cos"):
        return sine if name == "sin" else cosine
    top, bottom = {"tan": (sine, cosine), "cot": (cosine, sine)}.get(
        name, (Form(constant(1)), cosine if name == "sec" else sine)
    )
    return top * bottom.inverse()


def _logarithm(arg: Form, value: Number | None) -> Form | None:
    if value is not None and value > 0:
        total = Form({})
        for number, sign in ((value.numerator, 1), (value.denominator, -1)):
            factors, sure = factorize(number)
            for p, k in factors.items():
                total = total + _gen(("ln", p), opaque=not sure) * Form(constant(sign * k))
        return total
    if arg.den == _UNIT and len(arg.num) == 1:
        (mono, coefficient), *_ = arg.num.items()
        if coefficient > 0 and mono and all(gen[0] == "p" or gen == ("v", "e") for gen, _ in mono):
            total = _logarithm(Form({}), coefficient) or Form({})
            for gen, exponent in mono:
                part = Form(constant(1)) if gen == ("v", "e") else _gen(("ln", gen[1]))
                total = total + part * Form(constant(exponent))
            return total
        if coefficient == 1 and mono and all(gen[0] == "exp" and gen[1] == _natural() for gen, _ in mono):
            total = Form({})
            for gen, exponent in mono:
                total = total + Form({gen[2]: exponent}, opaque=True)
            return total
    return None


def _integer_function(name: str, n: list[int]) -> Form | None:
    first = n[0]
    if name == "factorial" and 0 <= first <= 1000:
        return Form(constant(math.factorial(first)))
    if name == "factorial2" and 0 <= first <= 1000:
        return Form(constant(math.prod(range(first, 0, -2))))
    if name == "binom" and n[1] >= 0 and 0 <= first <= 2000:
        return Form(_check(constant(math.comb(first, n[1]))))
    if name in ("gcd", "lcm"):
        return Form(constant((math.gcd if name == "gcd" else math.lcm)(*n)))
    if name in ("factorial", "factorial2", "binom") and first > 1000:
        raise TooLarge("too large a factorial")
    return None


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
    _work.left = BUDGET
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
    _work.left = BUDGET
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
