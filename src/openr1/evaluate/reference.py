"""Published numbers beside ours: which cell is meant, and whether ours reproduces it given both sides' errors.

Both sides answered the same questions, so what matters is how far either score moves when the questions are sampled
again. Ours is estimated from the samples; theirs, where the source says how many samples it took, from the spread that
our questions show at that many. Where it says nothing, one sample a question is assumed: the careful side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import yaml

from openr1.errors import UserError, did_you_mean
from openr1.evaluate.statistics import Counts
from openr1.paths import data_dir
from openr1.verify.interval import normal_quantile

REPRODUCED, ABOVE, BELOW, INCONCLUSIVE = "reproduced", "above", "below", "inconclusive"
MARGIN = 0.03  # reproduced: the difference is within 3 points, and known to be
ROUNDING = 0.0005  # the sources print one decimal of a percentage


@cache
def reference_results() -> dict[str, Any]:
    """`eval/reference_results.yaml`."""
    text = (data_dir("eval") / "reference_results.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def reference_model(model: str, wanted: str | None = None) -> str | None:
    """The published model that a source names: `wanted`, or the one of the same last part of the name.

    >>> reference_model("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B")
    'DeepSeek-R1-Distill-Qwen-7B'
    """
    known = reference_results()["models"]
    if wanted is not None:
        if wanted not in known:
            raise UserError(f"reference: no published model {wanted!r}; {did_you_mean(wanted, known)}")
        return wanted
    name = model.removeprefix("hub:").partition("@")[0].rstrip("/").rpartition("/")[2]
    return next((m for m in known if m.lower() == name.lower()), None)


def beside_reference(
    benchmark: str,
    model: str | None,
    counts: Sequence[Counts],
    sampling: dict[str, Any],
    problems: int,
    cons: float | None = None,
) -> dict[str, Any]:
    """{value, verdict, why, source, …} of the first published cell, and `all` of them.

    `counts`: ours by question; `problems`: how many the benchmark has. `value` and `verdict` are None where nothing is
    published of the model (or no model is meant) on this benchmark.
    """
    cells = [] if model is None else [
        c for c in reference_results()["results"] if c["model"] == model and c["benchmark"] == benchmark
    ]  # fmt: skip
    if not cells:
        why = "no published model of this name" if model is None else f"nothing is published of {model} here"
        return {"value": None, "verdict": None, "why": why, "all": []}
    differs = _differs(sampling, len(counts), problems)
    judged = [_judged(cell, counts, differs, cons) for cell in cells]
    first = next((j for j in judged if j["metric"] == "pass@1"), judged[0])
    return {**first, "all": judged}


def _differs(sampling: dict[str, Any], n: int, problems: int) -> str | None:
    """Why two scores are not of the same thing: a token budget or a sampling of their own, other questions."""
    theirs = reference_results()["sampling"]
    words = [
        f"{key.replace('_', ' ')} {sampling.get(key):g} against {value:g}"
        for key, value in theirs.items()
        if sampling.get(key) != value
    ]
    words += [f"{n} of {problems} questions"] if n != problems else []
    return ", ".join(words) or None


def _judged(cell: dict[str, Any], counts: Sequence[Counts], differs: str | None, cons: float | None) -> dict[str, Any]:
    source = reference_results()["sources"][cell["source"]]
    metric = cell.get("metric", "pass@1")
    out = {
        "value": cell["value"] if metric == "rating" else round(cell["value"] / 100, 6),
        "metric": metric, "k": cell["k"], "source": source["title"], "url": source["url"],
        "ours": None, "difference": None, "low": None, "high": None, "verdict": INCONCLUSIVE, "why": differs,
    }  # fmt: skip
    if metric != "pass@1":
        ours = cons if metric.startswith("cons") else None
        return out | {"ours": ours, "why": differs or "no error is known of this metric"}
    if not counts:
        return out | {"why": "nothing could be graded"}
    ours = sum(c.mean for c in counts) / len(counts)
    reach = normal_quantile(0.95) * math.sqrt(_variance(counts, None) + _variance(counts, cell["k"] or 1)) + ROUNDING
    difference = ours - out["value"]
    out |= {"ours": ours, "difference": difference, "low": difference - reach, "high": difference + reach}
    if differs:
        return out | {"why": f"not the same thing: {differs}"}
    return out | verdict(difference, reach)


def verdict(difference: float, reach: float, margin: float = MARGIN) -> dict[str, str | None]:
    """above, below: 0 is outside the interval; reproduced: inside, and it reaches no further than the margin."""
    if abs(difference) > reach:
        return {"verdict": ABOVE if difference > 0 else BELOW, "why": None}
    if reach <= margin:
        return {"verdict": REPRODUCED, "why": None}
    return {"verdict": INCONCLUSIVE, "why": f"the difference is known to {100 * reach:.1f} points only; raise k"}


def _variance(counts: Sequence[Counts], k: int | None) -> float:
    """Of the mean over these questions when they are sampled again, `k` times each (None: as often as they were).

    m(1-m)·n/(n-1) estimates p(1-p) without bias; one sample a question shows no spread, there p(1-p) of the mean is
    the bound.
    """
    n = len(counts)
    mean = sum(c.mean for c in counts) / n
    spread = [c.mean * (1 - c.mean) * c.n / (c.n - 1) if c.n > 1 else mean * (1 - mean) for c in counts]
    return sum(s / (k or c.n) for s, c in zip(spread, counts, strict=True)) / n**2
