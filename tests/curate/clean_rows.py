"""Rows that are copies of nothing: word problems, algebra in LaTeX, arithmetic and geometry, made from a seed."""

from __future__ import annotations

import random


def _split(text: str) -> list[str]:
    return text.split()


NAMES = _split("Bela Chen Dara Emil Farah Goran Hana Ivo Juno Kofi Lena Marek Noor Otis Priya Quinn Rosa Sven Tara")
THINGS = _split("pencils marbles stickers apples buttons stamps shells cards walnuts beads tickets books coins eggs")
PLACES = _split("library bakery workshop garden school harbour museum market station farm theatre clinic")
WORDS = _split(
    "amber basket candle dragon engine feather glacier hammer island jacket kettle lantern meadow needle orchard "
    "pepper quarry ribbon saddle temple umbrella valley window yellow zipper anchor bridge copper desert ember forest "
    "granite hollow ivory jungle knight ladder marble nectar oyster paddle quiver rocket silver timber"
)


def clean_row(rng: random.Random) -> str:
    """One problem, between 40 and 500 characters."""
    return rng.choice([_story, _algebra, _arithmetic, _geometry, _counting, _words])(rng)


def clean_rows(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [clean_row(rng) for _ in range(n)]


def _story(r: random.Random) -> str:
    one, other = r.sample(NAMES, 2)
    thing, place = r.choice(THINGS), r.choice(PLACES)
    a, b, c = r.randint(2, 400), r.randint(2, 90), r.randint(2, 30)
    sentences = [
        f"{one} goes to the {place} with {a} {thing} in a bag.",
        f"On the way {other} gives {one} {b} more, but {c} of them fall into the river.",
        f"Each of the {c} shelves at the {place} holds {b} {thing}.",
        f"After {c} days {one} has sold half of the {thing} for {b} cents each.",
        f"{other} collects {c} times as many {thing} as {one} does.",
    ]
    asked = [
        f"How many {thing} does {one} have now?", "How many are left at the end of the day?",
        f"What is the total number of {thing} that {one} and {other} have together?",
        "How much money did they make in all?", f"How many more {thing} does {other} need to fill {a} boxes?",
    ]  # fmt: skip
    return " ".join([*r.sample(sentences, r.randint(2, 4)), r.choice(asked)])


def _algebra(r: random.Random) -> str:
    a, b, c, d = (r.randint(2, 60) for _ in range(4))
    return r.choice(
        [
            rf"Let $x$ and $y$ be real numbers with $\frac{{x}}{{{a}}}+{b}y={c}$ and ${d}x-y={a + b}$. Find $x+y$.",
            rf"Find all real solutions of the equation $x^{{{r.randint(2, 5)}}}-{a}x^2+{b}x-{c}=0$ in the interval "
            rf"$\left[{d},{d + a}\right]$.",
            rf"If $f(x)={a}x^2+{b}x-{c}$, what is the value of $f({d})-f({d - 1})$?",
            rf"Let $a_1={a}$ and $a_{{n+1}}={b}a_n+{c}$ for every positive integer $n$. What is the remainder when "
            rf"$a_{{{d}}}$ is divided by ${r.randint(7, 99)}$?",
            rf"Suppose that $\sqrt{{x+{a}}}+\sqrt{{x-{b}}}={c}$. Determine $x$, rounded to {d % 4} places.",
        ]
    )


def _arithmetic(r: random.Random) -> str:
    terms = [str(r.randint(1, 999)) for _ in range(r.randint(2, 9))]
    text = "".join(t + f" {r.choice('+-*')} " for t in terms)[:-3]
    return r.choice(
        ["What is {}?", "Calculate {}.", "Evaluate the following expression: {}", "{} =", "Work out {}."]
    ).format(text)


def _geometry(r: random.Random) -> str:
    a, b, c = r.sample("ABCDEFGHKLMNPQRST", 3)
    n, m = r.randint(3, 90), r.randint(3, 90)
    return (
        f"In triangle ${a}{b}{c}$ the side ${a}{b}$ has length ${n}$ and the angle at ${b}$ is ${m}^\\circ$. "
        f"The point {r.choice('UVWXYZ')} is the foot of the altitude from ${c}$. "
        + r.choice(
            [
                "Find the area of the triangle.",
                "What is the length of the altitude?",
                "Find the radius of its incircle.",
            ]
        )
    )


def _counting(r: random.Random) -> str:
    n, k = r.randint(5, 60), r.randint(2, 9)
    group = r.choice(["students", "cards", "towns", "players", "letters", "lamps"])
    return (
        f"In how many ways can {k} of {n} {group} be chosen and placed in a row, if the first two must not stand "
        f"beside each other? Give the answer modulo {r.randint(50, 2000)}."
    )


def _words(r: random.Random) -> str:
    return " ".join(r.choices(WORDS, k=r.randint(12, 70))) + r.choice(["?", ".", ""])
