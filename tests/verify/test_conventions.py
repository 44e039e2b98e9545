"""The conventions of docs/grading.md, one test a line of its table; and where the two sides are not symmetric."""

from __future__ import annotations

import pytest

from openr1.verify import grade

CONVENTIONS: list[tuple[str, str, str, str]] = [
    # name, gold, accepted (;;), rejected (;;)
    ("percent gold", r"10\%", r"10\% ;; 10 ;; 0.1 ;; 1/10", "1 ;; 0.01 ;; 11"),
    ("plain gold and percent", "10", r"10 ;; 10\%", "0.1"),
    ("fraction gold and percent", "0.1", r"0.1 ;; 1/10 ;; 10\%", r"10 ;; 0.1\%"),
    ("percent in words", "28 percent", r"28\% ;; 28 percent ;; 28\text{ percent}", "29 percent"),
    ("approximation of pi", r"\pi", r"\pi", "3.14 ;; 3.14159265358979"),
    ("pi for its approximation", "3.14", "3.14", r"\pi ;; 22/7"),
    ("approximation of a third", r"\frac13", "1/3", "0.33 ;; 0.333333333"),
    ("a third for its approximation", "0.33", "33/100", "1/3"),
    ("thousands separator", "1,200", r"1200 ;; 1{,}200 ;; 1\,200 ;; 1,200", "(1,200) ;; 1.2"),
    ("a pair is no thousands separator", "(1,200)", "(1, 200)", "1200 ;; 1,200"),
    ("units where one side has none", "5 cm", r"5 ;; 5\text{ cm} ;; 5 centimeters", "5 m ;; 6"),
    ("degrees where one side has none", r"30^\circ", "30 ;; 30 degrees", r"\frac{\pi}{6} ;; 31"),
    ("currency where one side has none", r"\$5", "5 ;; 5 dollars", "€5 ;; 6"),
    ("text wrappers", r"\text{7}", r"7 ;; \mathrm{7} ;; $7$", "8"),
    ("time of day", "12:30 AM", "12:30 a.m. ;; 12:30", "12:30 PM ;; 12:31 AM"),
    ("unreduced forms", "1/2", r"2/4 ;; \frac{50}{100}", "2/5"),
    ("unevaluated forms", "6", r"3! ;; 2+4 ;; 2\cdot3 ;; \binom{4}{2}", "3"),
    ("words", "Paris", r"paris ;; \text{Paris}.", "London ;; 5"),
    ("letters", "B", r"(B) ;; \text{B} ;; B. Paris", "C ;; (C) ;; AB"),
    ("name on one side", "5", "x=5 ;; f(2)=5", "x=6"),
    ("name on the gold's side", "x=5", "5 ;; x=5", "y=5 ;; f(x)=5"),
    ("functions", "f(x)=x^2", "x^2", "g(x)=x^2"),
    ("tuple of names", "(p,q)=(1,2)", "(1,2) ;; p=1, q=2", "(2,1) ;; (q,p)=(1,2)"),
    ("lists", "1 and 2", r"1, 2 ;; 2; 1 ;; 1 or 2 ;; \{1,2\}", "1 ;; 1, 3 ;; (1,2)"),
    ("plus minus", r"\pm 3", "3, -3 ;; -3 and 3", "3"),
    ("interval for inequality", "1<x<2", "(1,2)", "[1,2] ;; (1,3)"),
    ("inequality for a bare pair", "(1,2)", "(1,2) ;; 1,2", r"1<x<2 ;; \{1,2\}"),
    ("inequality for what is surely an interval", "[1,2)", r"1\le x<2", "1<x<2"),
    ("sets have no order", r"\{1,2\}", r"\{2,1\} ;; 2, 1", "(1,2)"),
    ("tuples have", "(1,2)", "(1,2)", "(2,1)"),
    ("numeral of a base", "1011_2", "1011_{2}", "1011 ;; 1011_3"),
    ("ratio", "3:4", "6:8 ;; 3/4", "4:3"),
    ("equation", "x+2y=4", "2x+4y=8 ;; 4=x+2y", "4 ;; x+2y=5"),
    ("a value is no equation", "1", "x=1", "x^2+y^2=1"),
    ("variables have case", "x", "x", "X"),
    ("an approximation sign states its left side", r"\pi", r"\pi \approx 3.14", r"3.14 \approx \pi"),
    ("a name before it has no value", "3", r"x \approx 3", r"x \approx 4"),
    ("units are not converted", "1 m", "1 meter ;; 1", "100 cm"),
    ("a letter beside a number is a factor", "5m", r"m\cdot5", "5 ;; 5 cm"),
    ("a letter behind a space is a unit", "5 m", r"5\text{ m} ;; 5 ;; 5 meters", "5 km"),
    ("parentheses around a value", "7", "(7) ;; {7}", "[8]"),
    ("mixed numbers", "3/2", r"1\frac12 ;; 1 1/2 ;; 1\ \frac{1}{2}", r"1\cdot\frac12 ;; \frac{11}{2}"),
    ("repeating decimals", "1/3", r"0.\overline{3} ;; 0.\bar{3}", "0.333"),
    ("an option with its text", "25", r"(C) 25 ;; \textbf{(C)}\ 25", "(C) 26 ;; C"),
    ("a sum of names has a value", "5", "a+b=5 ;; 2+3=5 ;; xy=5", "x^2=5 ;; 2x=5"),
    ("a line is no number", "x+y=5", "y+x=5", "5"),
    ("unions", r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x>2", r"x<1 \text{ and } x>2 ;; (-\infty,1)"),
    ("a set repeats nothing", r"\{1,2\}", r"\{1,1,2\}", r"\{1,2,3\}"),
    ("a list counts its items", "1,1,2", "1, 2, 1", "1,2"),
    (
        "matrices",
        r"\begin{pmatrix}1\\2\end{pmatrix}",
        r"\begin{bmatrix}1\\2\end{bmatrix}",
        r"(1,2) ;; \begin{pmatrix}1&2\end{pmatrix}",
    ),
    ("logarithms without a base are decimal", "2", r"\log 100 ;; \log_2 4 ;; \ln e^2", r"\ln 100"),
    ("roots of squares", "|x|", r"\sqrt{x^2}", "x"),
    ("nothing", r"\emptyset", r"\{\} ;; \varnothing", "0"),
    ("scale words", "3 million", "3000000 ;; 3,000,000", "3 ;; 3 billion"),
]


@pytest.mark.parametrize(("name", "gold", "accepted", "rejected"), CONVENTIONS, ids=[c[0] for c in CONVENTIONS])
def test_convention(name: str, gold: str, accepted: str, rejected: str) -> None:
    right, wrong = accepted.split(" ;; "), rejected.split(" ;; ")
    verdicts = grade(gold=[gold] * len(right + wrong), completion=[rf"\boxed{{{answer}}}" for answer in right + wrong])
    assert [v.status for v in verdicts] == ["correct"] * len(right) + ["wrong"] * len(wrong)


def test_tolerance_is_the_tasks_to_set() -> None:
    answers = [r"\boxed{3.14}", r"\boxed{3.2}"]
    graded = grade([r"\pi"] * 2, answers, info=[{"tolerance": 1e-3}] * 2)
    assert [v.status for v in graded] == ["correct", "wrong"]
    assert [v.status for v in grade([r"\pi"] * 2, answers)] == ["wrong", "wrong"]


def test_the_gold_comes_first() -> None:
    forward, backward = grade(gold=["1<x<2", "(1,2)"], completion=[r"\boxed{(1,2)}", r"\boxed{1<x<2}"])
    assert (forward.status, backward.status) == ("correct", "wrong")


@pytest.mark.parametrize("gold", [None, "", "   ", "???", r"\frac{1}{", [], b"42", True, "x" * 5000])
def test_a_gold_that_cannot_grade_masks_the_row(gold: object) -> None:
    (verdict,) = grade([gold], [r"\boxed{42}"])
    assert verdict.status == "bad_gold" and verdict.score is None and verdict.detail


@pytest.mark.parametrize("gold", [42, 42.0, "42", ["41", "42"], r"Thus $\boxed{42}$.", "6*7 = 42\n#### 42"])
def test_golds_of_every_shape(gold: object) -> None:
    assert [v.status for v in grade([gold] * 2, [r"\boxed{42}", r"\boxed{43}"])] == ["correct", "wrong"]
