"""The summary at the end of `openr1 run`, for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from openr1.report.numbers import compact, decimal, duration, integer, interval, percent, scientific

STYLE = {"done": "green", "failed": "bold red", "unfinished": "yellow", "unreadable": "bold red", "not run": "dim"}


def terminal(report: dict[str, Any]) -> RenderableType:
    """Models, stages and warnings of a report (what `build_report` returned) as one rich renderable."""
    parts: list[RenderableType] = []
    if report["models"]:
        parts += [_models(report["models"]), Text("95% intervals over questions, in percent.\n", style="dim")]
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
        table.add_column(title, justify="right" if right else "left", no_wrap=right)
    return table


def _models(models: dict[str, dict[str, Any]]) -> Table:
    table = _table("model", "greedy", "95%", "sampled", "95%", "n", "k", "format", "length", "time", "FLOPs", numbers=10)
    for name, e in models.items():
        greedy, sampled = e.get("greedy") or {}, e.get("sampled") or {}
        table.add_row(
            Text(name, style="bold"),
            percent(greedy.get("accuracy")),
            Text(interval(greedy.get("low"), greedy.get("high")), style="dim"),
            percent(sampled.get("accuracy")),
            Text(interval(sampled.get("low"), sampled.get("high")), style="dim"),
            integer(greedy.get("n") or sampled.get("n")),
            integer(sampled.get("k")),
            percent(e.get("format"), 0),
            decimal(e.get("response_tokens"), 0),
            duration(e.get("seconds")),
            scientific(e.get("flops")),
        )
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
