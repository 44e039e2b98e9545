"""The paper's claims put to the test: one model above another, question by question, from the samples of both.

A claim is judged by the paired difference over the questions that both models answered: both saw the same questions,
so what makes a question hard cancels out. Where the prompts differ there is nothing to pair, and the verdict says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

from openr1.errors import UserError
from openr1.evaluate.settings import ClaimSettings
from openr1.evaluate.statistics import CONFIDENCE, Counts, Interval, clustered, paired_difference
from openr1.evaluate.summary import reasoning_language
from openr1.records import MASKED
from openr1.rewards.form import is_strict
from openr1.rewards.language import By
from openr1.rewards.reflection import reflects

CAME_OUT, OPPOSITE, CANNOT_TELL = "came out", "the opposite", "cannot tell"
ACCURACIES = ("greedy", "sampled")
SPOKEN = ("language", "reflection")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A model's samples (rows of SAMPLES_SCHEMA) and what its evaluation counted on them."""

    model: str
    rows: Sequence[Row] = field(repr=False)
    reflection_words: Sequence[str] = ()
    language: str | None = None
    language_by: By = "identifier"


def judge(claim: ClaimSettings, higher: Measured, lower: Measured) -> dict[str, Any]:
    """The claim beside what was measured, as plain JSON.

    `higher` and `lower`: {model, value, low, high, n, k}; `difference`: {value, low, high, p, n, detectable} of the
    questions that both have a value for, None where there is none; `verdict`: came out (the interval lies above 0),
    the opposite (below 0), else cannot tell; `reason`: why, where nothing could be compared; `intervals_overlap` of
    the two models' own intervals.
    """
    out: dict[str, Any] = {
        **{k: getattr(claim, k) for k in ("id", "claim", "source", "metric", "note")},
        "higher": {"model": claim.higher}, "lower": {"model": claim.lower},
        "difference": None, "verdict": CANNOT_TELL, "reason": None, "intervals_overlap": None,
    }  # fmt: skip
    try:
        above, below = per_question(higher, claim.metric), per_question(lower, claim.metric)
        _same_prompts(higher, lower, claim.metric)
        shared = sorted(above.keys() & below.keys())
        difference = paired_difference([fmean(above[i]) for i in shared], [fmean(below[i]) for i in shared])
    except UserError as e:
        return out | {"reason": str(e)}
    own = [_interval(above, claim.metric), _interval(below, claim.metric)]
    for side, model, values, interval in zip(
        ("higher", "lower"), (claim.higher, claim.lower), (above, below), own, strict=True
    ):
        out[side] = {
            "model": model, **asdict(interval), "n": len(values), "k": max(len(v) for v in values.values()),
        }  # fmt: skip
    verdict = CAME_OUT if difference.low > 0 else OPPOSITE if difference.high < 0 else CANNOT_TELL
    overlap = own[0].low <= own[1].high and own[1].low <= own[0].high
    return out | {"difference": asdict(difference), "verdict": verdict, "intervals_overlap": overlap}


def per_question(measured: Measured, metric: str) -> dict[str, list[float]]:
    """A model's values of a metric by prompt id, one a sample; samples without a value (masked, no words) left out.

    Raises:
        UserError: no sample has a value.
    """
    value = _VALUES[metric](measured)
    found: dict[str, list[float]] = {}
    for row in _rows(measured, metric):
        x = value(row)
        if x is not None:
            found.setdefault(row["prompt_id"], []).append(float(x))
    if not found:
        raise UserError(f"no sample of {measured.model} has a value of {metric}")
    return found


def _rows(measured: Measured, metric: str) -> list[Row]:
    """The samples that a metric is about: the mode by name; sampled ones for how a model talks, since greedy decoding
    hides what it says now and then; else greedy ones where there are any."""
    if metric in ACCURACIES:
        return [r for r in measured.rows if r["mode"] == metric]
    if metric in SPOKEN:
        return [r for r in measured.rows if r["mode"] == "sampled"] or list(measured.rows)
    return [r for r in measured.rows if r["mode"] == "greedy"] or list(measured.rows)


def _same_prompts(higher: Measured, lower: Measured, metric: str) -> None:
    a, b = ({r["prompt_id"] for r in _rows(m, metric)} for m in (higher, lower))
    if a != b:
        raise UserError(
            f"{higher.model} and {lower.model} were asked different questions ({len(a & b)} shared of "
            f"{len(a)} and {len(b)}); evaluate both on the same prompts"
        )
    modes = [{r["mode"] for r in _rows(m, metric)} for m in (higher, lower)]
    if modes[0] != modes[1]:
        raise UserError(
            f"{higher.model} was measured on {_and(modes[0])} replies and {lower.model} on {_and(modes[1])} ones"
        )


def _and(words: Iterable[str]) -> str:
    return " and ".join(sorted(words))


def _right(_: Measured) -> Callable[[Row], float | None]:
    return lambda row: None if row["status"] in MASKED else float(row["status"] == "correct")


def _language(measured: Measured) -> Callable[[Row], float | None]:
    language = measured.language
    if language is None:
        raise UserError(f"the evaluation of {measured.model} names no language; set its `language`")
    return lambda row: reasoning_language(str(row["completion"] or ""), language, measured.language_by)


def _reflection(measured: Measured) -> Callable[[Row], float | None]:
    words = list(measured.reflection_words)
    if not words:
        raise UserError(f"the evaluation of {measured.model} counts no words; set its `reflection_words`")
    return lambda row: float(reflects(str(row["completion"] or ""), words))


_VALUES: dict[str, Callable[[Measured], Callable[[Row], float | None]]] = {
    "greedy": _right,
    "sampled": _right,
    "format": lambda _: lambda row: float(is_strict(str(row["completion"] or ""))),
    "response_tokens": lambda _: lambda row: row["completion_tokens"],
    "language": _language,
    "reflection": _reflection,
}


def _interval(values: Mapping[str, Sequence[float]], metric: str) -> Interval:
    """A model's own mean with its 95% interval over questions: as in its evaluation for rates of right and wrong."""
    if metric in (*ACCURACIES, "format", "reflection"):
        return clustered([Counts(round(sum(v)), len(v)) for v in values.values()])
    from scipy.stats import t

    means = [fmean(v) for v in values.values()]
    n = len(means)
    reach = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * stdev(means) / math.sqrt(n) if n > 1 else math.inf
    return Interval(fmean(means), fmean(means) - reach, fmean(means) + reach)
