"""The summary at the end of `openr1 run`, for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from openr1.report.claims import amount, span, unit
from openr1.report.numbers import compact, decimal, duration, integer, interval, percent

STYLE = {"done": "green", "failed": "bold red", "unfinished": "yellow", "unreadable": "bold red", "not run": "dim"}
VERDICT = {"came out": "green", "the opposite": "bold red", "cannot tell": "dim"}


def terminal(report: dict[str, Any]) -> RenderableType:
    """Models, stages and warnings of a report (what `build_report` returned) as one rich renderable."""
    parts: list[RenderableType] = []
    if report.get("benchmarks"):
        parts += [
            _benchmarks(report["benchmarks"]),
            Text("Below each accuracy: 95% interval, percent.\n", style="dim"),
        ]
    if report["models"]:
        parts += [_models(report["models"]), Text("Below each accuracy: 95% interval, percent.\n", style="dim")]
    if report.get("claims"):
        parts += [_claims(report["claims"]), Text()]
    parts += [_stages(report["stages"]), Text()]
    for warning in report["warnings"]:
        parts.append(Padding(Text.assemble(("! ", "yellow"), warning), (0, 0, 0, 1)))
    where = report.get("report", {}).get("html")
    if where:
        parts.append(Text.assemble("Report: ", (where, "bold")))
    return Group(*parts)


def _table(*columns: str, numbers: int) -> Table:
    """A plain table; the last `numbers` columns are right-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for i, title in enumerate(columns):
        right = i >= len(columns) - numbers
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=right)
    return table


def _models(models: dict[str, dict[str, Any]]) -> Table:
    table = _table("model", "greedy", "sampled", "n", "k", "format", "length", "time", numbers=7)
    for name, e in models.items():
        greedy, sampled = e.get("greedy") or {}, e.get("sampled") or {}
        table.add_row(
            Text(name, style="bold"),
            _rate(greedy),
            _rate(sampled),
            integer(greedy.get("n") or sampled.get("n")),
            integer(sampled.get("k")),
            percent(e.get("format"), 0),
            decimal(e.get("response_tokens"), 0),
            duration(e.get("seconds")),
        )
    return table


def _benchmarks(benchmarks: dict[str, dict[str, Any]]) -> Table:
    """Scores, what cuts into them, and the published number."""
    table = _table("benchmark", "accuracy", "n", "k", "cons", "truncated", "no answer", "published", numbers=7)
    for name, b in benchmarks.items():
        reference = b["reference"]
        published = Text(percent(reference["value"])).append(
            f"\n{reference['verdict']}" if reference["verdict"] else "", style="dim"
        )
        table.add_row(
            Text(name, style="bold"),
            _rate(b),
            integer(b["n"]),
            integer(b["k"]),
            percent(b["cons"]),
            percent(b["truncated"]),
            percent(b["no_answer"]),
            published,
        )
    return table


def checkpoints_table(checkpoints: dict[str, dict[str, Any]]) -> Table:
    """Accuracy with its interval, a row a checkpoint and a column a benchmark."""
    names = list(dict.fromkeys(b for c in checkpoints.values() for b in c["benchmarks"]))
    table = _table("checkpoint", *names, numbers=len(names))
    for name, found in checkpoints.items():
        table.add_row(Text(name, style="bold"), *(_rate(found["benchmarks"].get(b) or {}) for b in names))
    return table


def _rate(measured: dict[str, Any]) -> Text:
    """A rate, and its interval on a line of its own, so that the table fits 80 columns."""
    text = Text(percent(measured.get("accuracy")))
    limits = interval(measured.get("low"), measured.get("high")).replace(" to ", "–")
    return text.append(f"\n{limits}", style="dim") if limits else text


def _claims(claims: list[dict[str, Any]]) -> Table:
    """One line a claim: what was compared, the paired difference with its interval, the verdict."""
    table = _table("claim", "verdict", "difference", numbers=1)
    for c in claims:
        compared = f"{c['higher']['model']} > {c['lower']['model']}"
        if c["metric"] != "greedy":
            compared += f" ({c['metric'].replace('_', ' ')})"
        d, metric = c["difference"] or {}, c["metric"]
        shown = f"{amount(d.get('value'), metric, sign=True)} {unit(metric)}" if d else "not measured"
        text = Text(shown).append(f"\n{span(d['low'], d['high'], metric)}" if d else "", style="dim")
        table.add_row(Text(compared), Text(c["verdict"], style=VERDICT[c["verdict"]]), text)
    return table


def _stages(entries: list[dict[str, Any]]) -> Table:
    table = _table("stage", "kind", "status", "time", "tokens", numbers=2)
    for e in entries:
        tokens = e.get("tokens") or {}
        amount = sum(int(tokens.get(k, 0)) for k in ("generated", "trained"))
        status = str(e["status"])
        table.add_row(
            Text(e["stage"]),
            Text(e["kind"]),
            Text(status, style=STYLE.get(status, "")),
            duration(e.get("total_seconds")),
            compact(amount) if amount else "–",
        )
    return table
