"""Generated pairs: the fast path against arithmetic truth, and against math-verify wherever both decide."""

from __future__ import annotations

import logging
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openr1.verify.mathematics import MathVerifier

logging.getLogger("math_verify").setLevel(logging.ERROR)
MATH = MathVerifier()
BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
small = st.integers(-60, 60)
positive = st.integers(1, 60)


def fast(gold: str, answer: str) -> bool | None:
    decision = MATH.decide(answer, [gold], {})
    return None if decision is None else decision.status == "correct"


def peer(gold: str, answer: str) -> bool:
    from math_verify import parse, verify

    left, right = (parse(f"${text}$", parsing_timeout=None) for text in (gold, answer))
    return bool(verify(left, right, timeout_seconds=None))


@st.composite
def rational_forms(draw: st.DrawFn) -> tuple[Fraction, str]:
    p, q = draw(small), draw(positive)
    value = Fraction(p, q)
    k = draw(st.integers(1, 5))
    forms = [rf"\frac{{{p * k}}}{{{q * k}}}", f"{p}/{q}", rf"\dfrac{{{p}}}{{{q}}}", rf"{p}\cdot\frac{{1}}{{{q}}}"]
    if value.denominator == 1:
        forms += [str(value.numerator), f"{value.numerator}.0", f"{value.numerator + k}-{k}"]
    scaled = value * 10**6
    if scaled.denominator == 1:
        sign = "-" if value < 0 else ""
        whole, rest = divmod(abs(int(scaled)), 10**6)
        forms.append(f"{sign}{whole}.{rest:06d}")
    return value, draw(st.sampled_from(forms))


@given(rational_forms(), rational_forms())
@BOUNDED
def test_rationals_are_decided_and_decided_right(a: tuple[Fraction, str], b: tuple[Fraction, str]) -> None:
    assert fast(a[1], b[1]) is (a[0] == b[0])
    assert fast(a[1], a[1]) is True


@given(rational_forms(), rational_forms())
@settings(parent=BOUNDED, max_examples=60)
def test_rationals_agree_with_math_verify(a: tuple[Fraction, str], b: tuple[Fraction, str]) -> None:
    assert fast(a[1], b[1]) == peer(a[1], b[1])


@st.composite
def radical_forms(draw: st.DrawFn) -> tuple[tuple[int, int, int], str]:
    """a + b·√n with n square free, in one of several forms."""
    a, b, n = draw(st.integers(-9, 9)), draw(st.integers(1, 9)), draw(st.sampled_from([2, 3, 5, 6, 7, 10]))
    root = draw(st.sampled_from([rf"{b}\sqrt{{{n}}}", rf"\sqrt{{{b * b * n}}}", rf"\frac{{{b * n}}}{{\sqrt{{{n}}}}}"]))
    text = draw(st.sampled_from([f"{a}+{root}", f"{root}+{a}" if a >= 0 else f"{root}{a}"]))
    return (a, b, n), text


@given(radical_forms(), radical_forms())
@settings(parent=BOUNDED, max_examples=100)
def test_radicals_are_decided_and_decided_right(
    left: tuple[tuple[int, int, int], str], right: tuple[tuple[int, int, int], str]
) -> None:
    assert fast(left[1], right[1]) is (left[0] == right[0])


@given(radical_forms(), radical_forms(), st.booleans())
@settings(parent=BOUNDED, max_examples=40)
def test_radicals_agree_with_math_verify(
    left: tuple[tuple[int, int, int], str], right: tuple[tuple[int, int, int], str], same: bool
) -> None:
    other = left if same else right
    assert fast(left[1], other[1]) == peer(left[1], other[1])


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[tuple[int, int], str]:
    r, s = draw(st.integers(-5, 5)), draw(st.integers(-5, 5))
    factored = f"(x-({r}))(x-({s}))"
    expanded = f"x^2+({-(r + s)})x+({r * s})"
    swapped = f"({s}-x)({r}-x)"
    return (min(r, s), max(r, s)), draw(st.sampled_from([factored, expanded, swapped]))


@given(polynomials(), polynomials())
@settings(parent=BOUNDED, max_examples=100)
def test_polynomials_are_decided_and_decided_right(
    a: tuple[tuple[int, int], str], b: tuple[tuple[int, int], str]
) -> None:
    assert fast(a[1], b[1]) is (a[0] == b[0])


@given(polynomials(), polynomials())
@settings(parent=BOUNDED, max_examples=25)
def test_polynomials_agree_with_math_verify(a: tuple[tuple[int, int], str], b: tuple[tuple[int, int], str]) -> None:
    assert fast(a[1], b[1]) == peer(a[1], b[1])


@given(st.lists(rational_forms(), min_size=2, max_size=4), st.randoms(use_true_random=False))
@BOUNDED
def test_lists_and_sets_have_no_order_and_tuples_have(items: list[tuple[Fraction, str]], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    texts, others = [text for _, text in items], [text for _, text in shuffled]
    assert fast(" and ".join(texts), "; ".join(others)) is True
    assert fast(r"\{" + ", ".join(texts) + r"\}", ", ".join(others)) is True
    same_order = [value for value, _ in items] == [value for value, _ in shuffled]
    assert fast("(" + ", ".join(texts) + ")", "(" + ", ".join(others) + ")") is same_order


@given(st.text(max_size=60))
@settings(parent=BOUNDED, max_examples=300)
def test_any_text_is_decided_without_an_exception_and_equals_itself(text: str) -> None:
    decision = MATH.decide(text, ["42"], {})
    assert decision is None or decision.status in ("correct", "wrong", "error")
    if text.strip(" .$*_`\n\t\r\f\v") and text == text.strip() and MATH.check_gold(text) is None:
        assert fast(text, text) is True
