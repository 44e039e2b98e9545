"""What a curated set looks like in a few numbers: pass rates of its prompts, lengths of its completions."""

from __future__ import annotations

from typing import Any

import numpy as np

from openr1.curate.ledger import Ledger

BINS = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe(ledger: Ledger) -> dict[str, Any]:
    """`pass_rates`: prompts by measured pass rate, in tenths, the exact ends apart; `completion_tokens`: quantiles of
    all completions and of those that were kept; empty parts are left out."""
    return {
        **_if_any("pass_rates", pass_rate_counts(ledger.pass_rate)),
        **_if_any("completion_tokens", _lengths(ledger)),
    }


def pass_rate_counts(rates: np.ndarray) -> dict[str, int]:
    """How many prompts were never right, right in some share of their samples (tenths), and always right.

    >>> pass_rate_counts(np.array([0.0, 0.0, 0.25, 0.95, 1.0, np.nan]))["20–30%"]
    1
    """
    known = rates[~np.isnan(rates)]
    if not len(known):
        return {}
    between = known[(known > 0) & (known < 1)]
    tenths = np.bincount(np.minimum((between * BINS + 1e-9).astype(int), BINS - 1), minlength=BINS)
    names = [f"{100 * i // BINS}–{100 * (i + 1) // BINS}%" for i in range(BINS)]
    middle = dict(zip(names, tenths.tolist(), strict=True))
    return {"never": int((known == 0).sum()), **middle, "always": int((known == 1).sum())}


def _lengths(ledger: Ledger) -> dict[str, dict[str, float]]:
    kept = ledger.tokens[ledger.left()]
    return {name: quantiles(tokens) for name, tokens in (("all", ledger.tokens), ("kept", kept)) if len(tokens)}


def quantiles(tokens: np.ndarray) -> dict[str, float]:
    """5, 25, 50, 75 and 95% quantiles, the mean and the largest."""
    found = {f"p{round(100 * q)}": float(v) for q, v in zip(QUANTILES, np.quantile(tokens, QUANTILES), strict=True)}
    return {"n": len(tokens), "mean": float(tokens.mean()), **found, "max": float(tokens.max())}


def _if_any(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {name: value} if value else {}
