"""The recipe's claims put to the test on this run's samples, and their table."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from openr1.evaluate.claims import CANNOT_TELL, Measured, judge
from openr1.evaluate.settings import ClaimSettings
from openr1.report.document import Cell, Column, Table, Tone
from openr1.report.load import Run, load_samples
from openr1.report.numbers import DASH, finite, scientific

METRICS = {
    "greedy": "accuracy, greedy", "sampled": "accuracy, sampled", "format": "well-formed replies",
    "language": "target-language words", "response_tokens": "tokens a reply", "reflection": "replies that reflect",
}  # fmt: skip
TONES: dict[str, Tone] = {"came out": "good", "the opposite": "bad", "cannot tell": "quiet"}


def claims_of(run: Run, models: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every claim of the recipe, judged (`openr1.evaluate.claims.judge`); one whose models are missing says so.

    Both sides hold what the model cost besides: `flops` with all that it rests on but its teachers' training, and
    `teacher_flops`.
    """
    measured: dict[str, Measured | None] = {}
    out = []
    for raw in run.config.get("claims") or []:
        try:
            claim = ClaimSettings.model_validate(raw)
        except ValidationError:
            continue  # run.yaml was edited by hand; the recipe itself is validated before a run
        for name in (claim.higher, claim.lower):
            if name not in measured:
                measured[name] = _measured(run, name, models.get(name))
        higher, lower = measured[claim.higher], measured[claim.lower]
        if higher is not None and lower is not None:
            found = judge(claim, higher, lower)
            for side in ("higher", "lower"):
                cost = models[found[side]["model"]]["cost"]
                found[side] |= {"flops": cost["alone"]["flops"], "teacher_flops": cost["teacher"]["flops"]}
            out.append(found)
        else:
            missing = " and ".join(n for n in (claim.higher, claim.lower) if measured[n] is None)
            out.append(_unmeasured(claim, f"{missing} is not measured yet; the run is not finished"))
    return out


def _measured(run: Run, name: str, entry: dict[str, Any] | None) -> Measured | None:
    stage = run.stage(str(entry["evaluated_by"])) if entry else None
    table = load_samples(stage) if stage is not None else None
    if stage is None or table is None:
        return None
    language = stage.results.get("language") or {}
    return Measured(
        name,
        table.to_pylist(),
        reflection_words=(stage.results.get("reflection") or {}).get("words") or (),
        language=language.get("language"),
        language_by=language.get("by") or "identifier",
    )


def _unmeasured(claim: ClaimSettings, reason: str) -> dict[str, Any]:
    return {
        **{k: getattr(claim, k) for k in ("id", "claim", "source", "metric", "note")},
        "higher": {"model": claim.higher}, "lower": {"model": claim.lower},
        "difference": None, "verdict": CANNOT_TELL, "reason": reason, "intervals_overlap": None,
    }  # fmt: skip


def amount(value: Any, metric: str, sign: bool = False) -> str:
    """A value or a difference of a metric: percent (a difference: points), or tokens."""
    x = finite(value)
    if x is None:
        return DASH
    plus = "+" if sign else ""
    if metric == "response_tokens":
        return _minus(f"{x:{plus},.1f}")
    return _minus(f"{100 * x:{plus}.1f}") if sign else f"{100 * x:.1f}%"


def span(low: Any, high: Any, metric: str) -> str:
    """An interval of values or of differences, without a unit: '10.1 to 14.9'."""
    scale = 1 if metric == "response_tokens" else 100
    a, b = finite(low), finite(high)
    return "" if a is None or b is None else _minus(f"{scale * a:.1f} to {scale * b:.1f}")


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def unit(metric: str) -> str:
    return "tokens" if metric == "response_tokens" else "points"


def claims_table(claims: list[dict[str, Any]]) -> Table:
    """Claim of the paper, what was measured here, the paired difference, the verdict and the power."""
    columns = [Column("Claim of the paper", text=30), Column("Verdict", text=11), Column("Measured here", text=34)]
    columns += [Column("Difference", True), Column("Could have seen", True)]
    note = (
        "Difference: over the questions that both models answered, paired, so that what makes a question hard cancels "
        "out; 95% interval by Student's t over questions, samples of one question averaged first. Came out: the "
        "interval lies above 0; the opposite: below 0. Could have seen: the smallest true difference that a test of "
        "this size finds four times in five; a claim that cannot be told may still hold below it. Each claim is "
        f"tested by itself: of {len(claims)} claims without substance about {0.05 * len(claims):.1g} would look like "
        "something by chance."
    )
    rows = [_row(c) for c in claims]
    return Table(columns, rows, "The paper's claims, and what came out here", note)


def _row(c: dict[str, Any]) -> list[Cell | str]:
    metric, d = c["metric"], c["difference"]
    source = ". ".join(p.rstrip(".") for p in (c["source"], c["note"]) if p)
    claim = Cell(c["claim"], source)
    verdict = Cell(c["verdict"], tone=TONES[c["verdict"]])
    if d is None:
        wanted = f"{METRICS[metric]}: {c['higher']['model']} against {c['lower']['model']}"
        return [claim, verdict, Cell(wanted, c["reason"] or ""), DASH, DASH]
    pairs = [(c[side], amount(c[side]["value"], metric)) for side in ("higher", "lower")]
    shown = " against ".join(f"{side['model']} {value}" for side, value in pairs)
    limits = " and ".join(span(side["low"], side["high"], metric) for side, _ in pairs)
    overlap = "overlapping" if c["intervals_overlap"] else "apart"
    difference = f"{amount(d['value'], metric, sign=True)} {unit(metric)}"
    return [
        claim,
        verdict,
        Cell(shown, f"{METRICS[metric]}; {limits}, {overlap}; {_rests_on(c)}{_price(c)}"),
        Cell(difference, f"{span(d['low'], d['high'], metric)}, {_p(d['p'])}"),
        f"{amount(d['detectable'], metric, sign=True).lstrip('+')} {unit(metric)}" if d["detectable"] else DASH,
    ]


def _rests_on(c: dict[str, Any]) -> str:
    """How many questions of each model, how many of both where that differs, and how many samples a question."""
    sides = (c["higher"], c["lower"])
    n = " and ".join(dict.fromkeys(f"{side['n']:,}" for side in sides))
    both = f"{c['difference']['n']:,}"
    k = max(side["k"] for side in sides)
    text = f"n = {n}" + (f" ({both} of both)" if n != both else "") + (f", k = {k}" if k > 1 else "")
    return text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _price(c: dict[str, Any]) -> str:
    """What both models cost, so that a difference is read at its price."""
    sides = (c["higher"], c["lower"])
    if any(side["flops"] is None for side in sides):
        return ""
    words = [
        scientific(side["flops"])
        + (f" + {scientific(side['teacher_flops'])} of teachers" if side["teacher_flops"] else "")
        for side in sides
    ]
    return f"; {' against '.join(words)} FLOPs"


def _p(p: float) -> str:
    text = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")
