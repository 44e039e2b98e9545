"""Quotients of polynomials with rational coefficients over generators, and what bounds the time that they take.

A generator is a tuple whose first item is its kind: `("v", name)` a variable, π or e; `("p", n)` a root of a prime;
`("i",)`; `("ln", p)`; `("exp", base, exponent)`; others stand for what is not known any further.
"""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from typing import Any

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
UNIT: Poly = {ONE: 1}


class _Work(threading.local):
    """Term products left in this thread's current comparison: what bounds its time."""

    left = BUDGET


work = _Work()


def lean(value: Number) -> Number:
    """Whole numbers as int: they are added, multiplied and hashed many times faster than a Fraction."""
    return value.numerator if value.denominator == 1 else value


def constant(value: Number) -> Poly:
    return {ONE: lean(value)} if value else {}


def _order(item: tuple[Any, Number]) -> str:
    return repr(item[0])


def within_limits(poly: Poly) -> Poly:
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
    return within_limits(result)


def scale(a: Poly, factor: Number) -> Poly:
    return {mono: value * factor for mono, value in a.items()} if factor else {}


def _merge(a: Monomial, b: Monomial) -> tuple[Monomial, Number]:
    """Product of two monomials in normal form, and the rational factor that falls out (√2·√2 = 2, i² = -1)."""
    if not a or not b:
        return a or b, 1
    powers: dict[Any, Number] = dict(a)
    for gen, exponent in b:
        powers[gen] = powers.get(gen, 0) + exponent
    return normal(powers)


def normal(powers: dict[Any, Number]) -> tuple[Monomial, Number]:
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
    work.left -= len(a) * len(b)
    if work.left < 0:
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
    return within_limits(result)


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
                inverse, factor = normal({gen: -exponent for gen, exponent in mono})
                self.num = multiply(self.num, {inverse: lean(Fraction(factor) / value)})
                self.den = {ONE: 1}

    def rational(self) -> Number | None:
        """The value where it is a rational number."""
        if self.den != UNIT:
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


def generator(gen: Any, exponent: Number = 1, opaque: bool = False) -> Form:
    mono, factor = normal({gen: exponent})
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
    mono, factor = normal(powers)
    return Form({mono: factor}, opaque=not sure)
