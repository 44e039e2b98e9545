"""The sample that ships with openr1: 200 word problems with integer answers, made by this file and nothing else.

`python -m openr1.tasks.word_problems [FILE]` writes them again; the same bytes every time.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

N = 200
SEED = 20260101
NAMES = [
    "Ada",
    "Bela",
    "Chen",
    "Dara",
    "Emil",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Juno",
    "Kofi",
    "Lena",
    "Marek",
    "Noor",
]
THINGS = ["pencils", "marbles", "stickers", "apples", "buttons", "stamps", "shells", "cards", "walnuts", "beads"]
PLACES = ["library", "bakery", "workshop", "garden", "school", "harbour"]

Draw = Callable[[int, int], int]
Template = tuple[str, Callable[[int, int, int], int], Callable[[Draw], tuple[int, int, int]]]

TEMPLATES: list[Template] = [
    (
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
        lambda a, b, c: a + b,
        lambda d: (d(2, 90), d(2, 90), 0),
    ),
    (
        "There were {a} {things} in a box. {name} took {b} of them out. How many are left in the box?",
        lambda a, b, c: a - b,
        lambda d: (d(50, 99), d(2, 49), 0),
    ),
    (
        "{name} packs {a} bags with {b} {things} each. How many {things} is that?",
        lambda a, b, c: a * b,
        lambda d: (d(2, 12), d(2, 15), 0),
    ),
    (
        "The {place} has {a} shelves. Every shelf holds {b} {things}, and {c} {things} lie on the floor. "
        "How many {things} are there?",
        lambda a, b, c: a * b + c,
        lambda d: (d(2, 9), d(3, 12), d(1, 20)),
    ),
    (
        "{name} shares {total} {things} equally among {a} friends. How many does each friend get?",
        lambda a, b, c: b,
        lambda d: (d(2, 9), d(2, 15), 0),
    ),
    (
        "A ticket for the {place} costs {a} coins. {name} buys {b} tickets and pays with {c} coins too many. "
        "How many coins did {name} hand over?",
        lambda a, b, c: a * b + c,
        lambda d: (d(2, 12), d(2, 9), d(1, 15)),
    ),
    (
        "{name} and {other} collect {things}. {name} has {a}, and {other} has {b} more than {name}. "
        "How many {things} do they have together?",
        lambda a, b, c: 2 * a + b,
        lambda d: (d(3, 40), d(2, 30), 0),
    ),
    (
        "{other} reads {a} pages a day for {b} days, and {name} reads {c} pages in all. "
        "How many more pages does {other} read?",
        lambda a, b, c: a * b - c,
        lambda d: (d(8, 15), d(5, 9), d(5, 35)),
    ),
    (
        "A bus leaves the {place} with {a} people. At the next stop {b} get off and {c} get on. "
        "How many people are on the bus then?",
        lambda a, b, c: a - b + c,
        lambda d: (d(20, 60), d(2, 19), d(2, 25)),
    ),
    (
        "{name} saves {a} coins every week. After {b} weeks {name} spends {c} coins. How many coins remain?",
        lambda a, b, c: a * b - c,
        lambda d: (d(5, 12), d(4, 9), d(2, 19)),
    ),
    (
        "A rope of {total} metres is cut into pieces of {a} metres. How many pieces are there?",
        lambda a, b, c: b,
        lambda d: (d(2, 9), d(3, 14), 0),
    ),
    (
        "In the morning {name} counts {a} {things}, at noon {b}, and in the evening {c}. "
        "How many were counted that day?",
        lambda a, b, c: a + b + c,
        lambda d: (d(2, 60), d(2, 60), d(2, 60)),
    ),
]


def make(n: int = N, seed: int = SEED) -> list[dict[str, str]]:
    """`n` problems with their answers, no question twice."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < n:
        text, answer, numbers = TEMPLATES[len(rows) % len(TEMPLATES)]
        a, b, c = numbers(rng.randint)
        name, other = rng.sample(NAMES, 2)
        words = {"name": name, "other": other, "things": rng.choice(THINGS), "place": rng.choice(PLACES)}
        rows.setdefault(text.format(a=a, b=b, c=c, total=a * b, **words), str(answer(a, b, c)))
    return [{"problem": problem, "answer": answer} for problem, answer in rows.items()]


def main() -> None:
    from openr1.manifest import write_atomic
    from openr1.tasks.local import SAMPLE

    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in make()))


if __name__ == "__main__":
    main()
