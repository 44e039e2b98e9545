"""How often the intervals of docs/evaluate.md hold the truth, and how often a comparison errs, both simulated.

Models with known truth: the chance of each question is drawn from a beta distribution with the accuracy as its mean
and a spread (small: most questions always or never right; large: all questions alike); each question is answered k
times. `of this kind` has to cover the mean of the distribution, `these again` that of the questions drawn. Two models
with the same distribution make a null hypothesis: how often is p at most 0.05, and how often does the 95% interval of
the difference leave 0 out?

    .venv/bin/python scripts/coverage_of_intervals.py [--trials 2000] [--write]        about five minutes
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from openr1.evaluate.difference import permutation_p
from openr1.evaluate.statistics import clustered_of, paired_difference, resampling_of

PAGE = Path(__file__).parents[1] / "docs" / "evaluate.md"
SPREADS = (0.3, 1.0, 4.0, 30.0)
ACCURACIES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
SIZES = ((30, 64), (30, 4), (198, 8), (500, 4))
NULLS = ((13, 4), (30, 4), (30, 64), (198, 1))  # 13: few enough for the exact test
TRIALS = 2000
BLOCK = 500  # trials drawn at a time


def answers(
    n: int, k: int, accuracy: float, spread: float, trials: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (chances, share of right samples), each (trials, n)."""
    rng = np.random.default_rng(seed)
    for start in range(0, trials, BLOCK):
        size = (min(BLOCK, trials - start), n)
        chances = rng.beta(spread * accuracy, spread * (1 - accuracy), size)
        yield chances, rng.binomial(k, chances) / k


def coverage(n: int, k: int, accuracy: float, spread: float, trials: int, seed: int) -> tuple[float, float]:
    """Shares of `trials` in which the interval of questions of this kind, and that of these again, hold the truth."""
    kind = again = 0
    for chances, means in answers(n, k, accuracy, spread, trials, seed):
        alike = means.min(1) == means.max(1)
        between = np.where(alike, 0.0, means.var(1, ddof=1) / n)
        within = (means * (1 - means)).sum(1) / (k - 1) / n**2
        rows = zip(means.mean(1).tolist(), between.tolist(), within.tolist(), chances.mean(1).tolist(), strict=True)
        for p, of_kind, of_these, truth in rows:
            p = min(max(p, 0.0), 1.0)
            a, b = clustered_of(p, of_kind, n), resampling_of(p, of_these, n * k)
            kind += a.low <= accuracy <= a.high
            again += b.low <= truth <= b.high
    return kind / trials, again / trials


def false_alarms(n: int, k: int, spread: float, trials: int, seed: int, same: bool) -> tuple[float, float]:
    """Shares of `trials` with two equally good models in which the permutation test says p <= 0.05, and in which the
    paired interval leaves 0 out. `same`: the models have the same chance at every question."""
    tested = apart = 0
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        chances = rng.beta(spread / 2, spread / 2, (2, n))
        a, b = (rng.binomial(k, chances[0 if same else i]) / k for i in range(2))
        found = paired_difference(a.tolist(), b.tolist())
        tested += permutation_p(a.tolist(), b.tolist()) <= 0.05
        apart += not found.low <= 0 <= found.high
    return tested / trials, apart / trials


def coverage_row(n: int, k: int, trials: int, accuracies: Sequence[float] = ACCURACIES) -> str:
    """A line of the first table."""
    cells = []
    for accuracy in accuracies:
        found = [coverage(n, k, accuracy, s, trials, 0) for s in SPREADS]
        cells.append(" / ".join(f"{100 * min(c):.0f}-{100 * max(c):.0f}" for c in zip(*found, strict=True)))
    return f"| {n}, {k} | " + " | ".join(cells) + " |"


def alarms_row(n: int, k: int, trials: int) -> str:
    """A line of the second table."""
    cells = []
    for same in (True, False):
        found = [false_alarms(n, k, s, trials, 0, same) for s in SPREADS]
        cells += [f"{100 * min(c):.1f}-{100 * max(c):.1f}" for c in zip(*found, strict=True)]
    return f"| {n}, {k} | " + " | ".join(cells) + " |"


def tables(trials: int) -> str:
    """Both tables, with what they rest on."""
    lines = [
        f"Coverage in percent, `of this kind / these again`, by true accuracy; {trials:,} trials a cell and spread,",
        f"lowest and highest over {len(SPREADS)} spreads of the questions' difficulty:",
        "",
        "| n, k | " + " | ".join(f"{a:g}" for a in ACCURACIES) + " |",
        "| --- |" + " --- |" * len(ACCURACIES),
        *(coverage_row(n, k, trials) for n, k in SIZES),
        "",
        f"Two models of the same accuracy (0.5), {trials:,} pairs a cell and spread: in what percent a difference is",
        "claimed, by the permutation test at 0.05 and by the 95% interval; lowest and highest over those spreads.",
        "A question's chance is the same for both models, or drawn for each:",
        "",
        "| n, k | same, test | same, interval | drawn, test | drawn, interval |",
        "| --- | --- | --- | --- | --- |",
        *(alarms_row(n, k, trials) for n, k in NULLS),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--write", action="store_true", help="into docs/evaluate.md, between its marks")
    args = parser.parse_args()
    found = tables(args.trials)
    sys.stdout.write(found + "\n")
    if args.write:
        text = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- simulated -->\n).*?(\n<!-- end -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda m: m[1] + found + m[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
