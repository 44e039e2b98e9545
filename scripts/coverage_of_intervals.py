"""Coverage of the two intervals of an accuracy, simulated: the table of docs/evaluate.md.

Models with known truth: the chance of each question is drawn from a beta distribution with the accuracy as its mean
and a spread (small: most questions always or never right; large: all questions alike); each question is answered k
times. `of this kind` has to cover the mean of the distribution, `these again` that of the questions drawn.

    .venv/bin/python scripts/coverage_of_intervals.py [TRIALS] [n,k …]            a few minutes
"""

from __future__ import annotations

import sys

import numpy as np

from openr1.evaluate.statistics import Counts, clustered, resampling_only

SPREADS = (0.3, 1.0, 4.0, 30.0)
ACCURACIES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
SIZES = ((30, 64), (30, 4), (198, 8), (500, 4))


def coverage(n: int, k: int, accuracy: float, spread: float, trials: int, seed: int) -> tuple[float, float]:
    """Shares of `trials` in which the interval of questions of this kind, and that of these again, hold the truth."""
    rng = np.random.default_rng(seed)
    kind = again = 0
    for _ in range(trials):
        chances = rng.beta(spread * accuracy, spread * (1 - accuracy), n)
        questions = [Counts(int(c), k) for c in rng.binomial(k, chances)]
        a, b = clustered(questions), resampling_only(questions)
        assert b is not None
        kind += a.low <= accuracy <= a.high
        again += b.low <= chances.mean() <= b.high
    return kind / trials, again / trials


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    out = sys.stdout.write
    out(f"Coverage in percent (of this kind / these again), {trials} trials a cell, worst and best over spreads.\n\n")
    out("| n, k | " + " | ".join(f"{a:g}" for a in ACCURACIES) + " |\n")
    out("| --- |" + " --- |" * len(ACCURACIES) + "\n")
    for n, k in [tuple(map(int, s.split(","))) for s in sys.argv[2:]] or SIZES:
        cells = []
        for accuracy in ACCURACIES:
            found = [coverage(n, k, accuracy, s, trials, 0) for s in SPREADS]
            ranges = [f"{100 * min(c):.0f}-{100 * max(c):.0f}" for c in zip(*found, strict=True)]
            cells.append(" / ".join(ranges))
        out(f"| {n}, {k} | " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    main()
