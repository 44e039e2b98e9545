"""Powers, roots, trigonometry, logarithms and the like of forms: exactly where that is known, else opaque."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from openr1.verify.forms import (
    MAX_BITS,
    ONE,
    UNIT,
    Form,
    Monomial,
    Number,
    constant,
    factorize,
    generator,
    normal,
    rational_power,
    within_limits,
)
from openr1.verify.lexer import NotMath, TooLarge


def power(base: Form, exponent: Form, *, principal: bool) -> Form:
    n = exponent.rational()
    if n is None:
        return symbolic_power(base, exponent)
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
            return rational_power(-value, n) * generator(("i",), n.numerator)
        if not principal and n.denominator % 2:
            root = rational_power(-value, n)
            return root.negative() if n.numerator % 2 else root
    elif len(base.num) == 1 and base.den == UNIT:
        (mono, coefficient), *_ = base.num.items()
        simple = len(mono) == 1 and coefficient > 0 and (mono[0][0][0] == "v" and mono[0][1] == 1)
        positive = coefficient > 0 and all(gen[0] == "p" or gen in (("v", "\\pi"), ("v", "e")) for gen, _ in mono)
        if simple or positive:
            raised = {gen: exp * n for gen, exp in mono}
            inner, factor = normal(raised)
            return rational_power(coefficient, n) * Form({inner: factor})
    return generator(("pow", base.key(), Fraction(1, n.denominator)), opaque=True).power(_small(n.numerator))


def _small(n: Number) -> int:
    if max(n, -n) > MAX_BITS:
        raise TooLarge("too large a power")
    return int(n)


def symbolic_power(base: Form, exponent: Form) -> Form:
    """a**(x+1) = a**x · a, term by term, with the base in primes where it is a positive rational."""
    if exponent.den != UNIT:
        return generator(("pow", base.key(), exponent.key()), opaque=True)
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
            result = result * power(base, Form(constant(coefficient)), principal=True)
            continue
        if mono == _I_PI and parts == [(_natural(), 1)] and (turn := _on_circle(coefficient)) is not None:
            result = result * turn
            continue
        for part, k in parts:
            result = result * generator(("exp", part, mono), coefficient * k, opaque=True)
    return result


_I_PI: Monomial = ((("i",), 1), (("v", "\\pi"), 1))


def _natural() -> Any:
    """The key of e."""
    return generator(("v", "e")).key()


def _on_circle(turn: Number) -> Form | None:
    """exp(i·turn·π) = cos + i sin, for the multiples of π/6 and π/4."""
    sine, cosine = _sine(turn), _sine(turn + Fraction(1, 2))
    return None if sine is None or cosine is None else cosine + sine * generator(("i",))


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
    if form.den != UNIT:
        return None
    if not form.num:
        return 0
    if len(form.num) == 1:
        (mono, value), *_ = form.num.items()
        if mono == ((("v", "\\pi"), 1),):
            return value
    return None


def function(name: str, args: list[Form]) -> Form:
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
    return generator(
        ("fn", name, tuple(sorted(keys, key=repr) if name in ("max", "min", "gcd", "lcm") else keys)), opaque=True
    )


def _by_exponentials(name: str, arg: Form) -> Form | None:
    """Euler: sin x = (E - 1/E) / 2i, cos x = (E + 1/E) / 2 with E = exp(ix), so that identities become algebra."""
    if arg.den != UNIT or not arg.num or len(arg.num) > 4 or arg.opaque:
        return None
    forward = symbolic_power(generator(("v", "e")), arg * generator(("i",)))
    backward = forward.inverse()
    cosine = (forward + backward) * Form(constant(Fraction(1, 2)))
    sine = (forward + backward.negative()) * generator(("i",)) * Form(constant(Fraction(-1, 2)))
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
                total = total + generator(("ln", p), opaque=not sure) * Form(constant(sign * k))
        return total
    if arg.den == UNIT and len(arg.num) == 1:
        (mono, coefficient), *_ = arg.num.items()
        if coefficient > 0 and mono and all(gen[0] == "p" or gen == ("v", "e") for gen, _ in mono):
            total = _logarithm(Form({}), coefficient) or Form({})
            for gen, exponent in mono:
                part = Form(constant(1)) if gen == ("v", "e") else generator(("ln", gen[1]))
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
        return Form(within_limits(constant(math.comb(first, n[1]))))
    if name in ("gcd", "lcm"):
        return Form(constant((math.gcd if name == "gcd" else math.lcm)(*n)))
    if name in ("factorial", "factorial2", "binom") and first > 1000:
        raise TooLarge("too large a factorial")
    return None
