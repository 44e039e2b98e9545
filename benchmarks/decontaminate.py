"""Decontamination speed: ours against a set of 8-gram strings a row, in one pass for each benchmark.

The other method is the common one: lower-case, split at white space, the set of all 8-grams of a row as strings, and a
row is flagged if any of them is in the benchmark's set; five benchmarks are five passes, each of which makes the sets
again. Both see the same rows and the same five benchmarks in one process, in turns, `--rounds` times; times are of the
process's own CPU, without building the index or the sets. Rows are made up: 40% word problems, 40% competition
problems in LaTeX, 20% short ones; one in ten holds characters beyond ASCII, one in 500 is a planted copy. The
benchmarks have the sizes of AIME 2024 and 2025, MATH-500, GPQA diamond and CHAMP, whose real problems are among them.
`--json FILE` keeps the numbers.

    python benchmarks/decontaminate.py [--rows 20000] [--rounds 5] [--seed 0] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

N = 8
SIZES = {"aime24": 30, "aime25": 30, "math_500": 500, "gpqa_diamond": 198}
PLANTED = 1 / 500
BEYOND_ASCII = 1 / 10
SYLLABLES = "ba co di fu ga he ji ko la me ni po ra se ti vu wa xe yo zu".split()  # noqa: SIM905
FUNCTION_WORDS = "the of a in is and that to for with each if then find all such are on by how many at".split()  # noqa: SIM905


class Maker:
    """Problems from a seed, with a vocabulary whose words are as frequent as words are (Zipf)."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.vocabulary = [
            "".join(self.draw.choices(SYLLABLES, k=self.draw.choice([2, 2, 3, 4]))) for _ in range(4000)
        ]
        self.weights = [1 / (rank + 10) for rank in range(4000)]

    def words(self, n: int) -> list[str]:
        rare = self.draw.choices(self.vocabulary, self.weights, k=n)
        return [self.draw.choice(FUNCTION_WORDS) if self.draw.random() < 0.45 else word for word in rare]

    def story(self) -> str:
        """A word problem, about 250 characters."""
        sentences = []
        for _ in range(self.draw.randint(2, 5)):
            words = self.words(self.draw.randint(7, 14))
            words[self.draw.randrange(len(words))] = str(self.draw.randint(2, 900))
            sentences.append(" ".join(words).capitalize() + ".")
        return " ".join(sentences)

    def olympiad(self) -> str:
        """A competition problem in LaTeX, about 300 characters."""
        parts = []
        for _ in range(self.draw.randint(2, 5)):
            a, b, c = (self.draw.randint(2, 99) for _ in range(3))
            formula = self.draw.choice(
                [
                    rf"$x^{{{a}}}+\frac{{{b}}}{{y}}={c}$", rf"$\left(a_{{{b}}}-{c}\right)^2 \leq \sqrt{{{a}}}$",
                    rf"$f(n)={a}n^2-{b}n+{c}$", rf"$\triangle ABC$ with $AB={a}$ and $\angle ABC={b}^\circ$",
                ]
            )  # fmt: skip
            parts.append(f"{' '.join(self.words(self.draw.randint(4, 12)))} {formula}")
        return ", ".join(parts).capitalize() + "."

    def short(self) -> str:
        return f"{' '.join(self.words(self.draw.randint(3, 7)))} {self.draw.randint(2, 9999)}?"

    def row(self) -> str:
        text = self.draw.choices([self.story, self.olympiad, self.short], [4, 4, 2])[0]()
        if self.draw.random() < BEYOND_ASCII:
            text = text.replace(" of ", " – ", 1) + self.draw.choice([" (≤ 3)", " “é”", " − 2π", " …"])
        return text


def make(rows: int, seed: int) -> tuple[dict[str, list[str]], list[str]]:
    """Benchmarks, and rows with planted copies."""
    from openr1.tasks.benchmarks import NotAvailable, benchmark_texts

    champ = benchmark_texts("champ")
    if isinstance(champ, NotAvailable):
        sys.exit(f"champ: {champ}")
    other = Maker(seed + 1)
    benchmarks = {name: [other.olympiad() for _ in range(n)] for name, n in SIZES.items()}
    benchmarks["champ"] = [text for _, text in champ]
    maker = Maker(seed)
    texts = [maker.row() for _ in range(rows)]
    everything = [text for found in benchmarks.values() for text in found]
    for i in maker.draw.sample(range(rows), int(rows * PLANTED)):
        texts[i] = "  ".join(maker.draw.choice(everything).split(" "))
    return benchmarks, texts


def grams_of(text: str) -> set[str]:
    words = text.lower().split()
    return {" ".join(words[i : i + N]) for i in range(len(words) - N + 1)}


def sets_of_strings(known_by_benchmark: list[set[str]], rows: Sequence[str]) -> list[bool]:
    """One pass over the rows for each benchmark; whether a row is flagged by any."""
    flagged = [False] * len(rows)
    for known in known_by_benchmark:
        for i, row in enumerate(rows):
            if any(gram in known for gram in grams_of(row)):
                flagged[i] = True
    return flagged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    benchmarks, rows = make(args.rows, args.seed)
    from openr1.curate.decontaminate import DecontaminationIndex

    start = time.process_time()
    index = DecontaminationIndex.build(benchmarks, N)
    build = time.process_time() - start
    known = [set().union(*map(grams_of, problems)) for problems in benchmarks.values()]
    methods: dict[str, Callable[[], list[bool]]] = {
        "sets of strings, five passes": lambda: sets_of_strings(known, rows),
        "ours": lambda: [hit is not None for hit in index.check(rows)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    flagged: dict[str, int] = {}
    for _ in range(args.rounds):
        for name, method in methods.items():
            start = time.process_time()
            flagged[name] = sum(method())
            seconds[name].append(time.process_time() - start)
    theirs, mine = seconds.values()
    ratios = [a / b for a, b in zip(theirs, mine, strict=True)]
    print(f"{len(rows):,} rows of {statistics.mean(map(len, rows)):.0f} characters (median "
          f"{statistics.median(map(len, rows)):.0f}), {sum(map(len, benchmarks.values())):,} problems, "
          f"{int(len(rows) * PLANTED)} planted copies, {args.rounds} rounds")  # fmt: skip
    for name, spent in seconds.items():
        rate = len(rows) / statistics.median(spent)
        print(f"{name:<30} {rate:>10,.0f} rows a core-second   {flagged[name]:>5} flagged")
    print(f"ratio, paired: median {statistics.median(ratios):.1f}, from {min(ratios):.1f} to {max(ratios):.1f}")
    print(f"the index takes {build:.2f} s to build, once; the times above are without it")
    if args.json:
        out = {"rows": len(rows), "seconds": seconds, "flagged": flagged, "ratio": statistics.median(ratios)}
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
