"""Runs beside each other for people: tables for the terminal, and sections of a page with curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as TerminalTable
from rich.text import Text as TerminalText

from openr1.errors import UserError
from openr1.manifest import load_manifest
from openr1.metrics import of_the_machine
from openr1.report.charts import SERIES, Look, Series, key_of, line_chart
from openr1.report.curves import PANELS, Panel
from openr1.report.differ import AXES, along, warnings_of
from openr1.report.document import Block, Bullets, Cell, Column, Figure, Fold, Panels, Section, Table, Text
from openr1.report.numbers import DASH, compact, duration, finite, measure
from openr1.report.sides import Side

MOST_ROWS = 24  # of metrics on a terminal
FIRST = ("accuracy", "reward", "loss", "completion_tokens", "truncated", "entropy", "kl", "grad_norm", "learning_rate")
MOST_FIGURES = 24  # of a stage
Found = Mapping[str, Any]


# ------------------------------------------------------------------------------------------------------------ terminal
def terminal(found: Found) -> RenderableType:
    """What differs in the settings, the metrics at the end and at best, and what it took."""
    runs = [r["run"] for r in found["runs"]]
    parts: list[RenderableType] = [_terminal_config(found, runs), TerminalText(), _terminal_metrics(found, runs)]
    parts += [TerminalText(), _terminal_costs(found)]
    parts += [TerminalText.assemble(("! ", "yellow"), w) for w in warnings_of(found)]
    return Group(*parts)


def _plain(*titles: str, numbers: int) -> TerminalTable:
    table = TerminalTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i >= len(titles) - numbers else "left", overflow="fold")
    return table


def _terminal_config(found: Found, runs: Sequence[str]) -> RenderableType:
    if not found["config"]:
        return TerminalText("settings: the same in all runs")
    table = _plain("settings that differ", *runs, numbers=0)
    lines = config_lines(found, runs)
    for name, values in lines[:MOST_ROWS]:
        table.add_row(name, *values)
    return _with_rest(table, len(lines))


def config_lines(found: Found, runs: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(setting, its value in every run); what differs in the same way in several stages is one line."""
    stages: dict[tuple[str, ...], list[str]] = {}
    for entry in found["config"]:
        stages.setdefault((entry["key"], *(_said(entry["values"].get(r)) for r in runs)), []).append(entry["stage"])
    lines = []
    for (key, *values), names in stages.items():
        where = names[0] if len(names) == 1 else f"({len(names)} stages)"
        lines.append((f"{where}.{key}", values))
    return lines


def _terminal_metrics(found: Found, runs: Sequence[str]) -> RenderableType:
    table = _plain("metric (end, best)", *runs, numbers=len(runs))
    rows = list(_metric_rows(found, runs))
    for stage, name, cells in rows[:MOST_ROWS]:
        table.add_row(f"{stage} {name}", *(_two_lines(*cell) for cell in cells))
    return _with_rest(table, len(rows))


def _two_lines(end: str, best: str) -> TerminalText:
    return TerminalText(end).append(f"\n{best}", style="dim") if best else TerminalText(end)


def _with_rest(table: TerminalTable, rows: int) -> RenderableType:
    more = rows - MOST_ROWS
    return table if more <= 0 else Group(table, TerminalText(f"and {more:,} more: --html, --csv or --json has them"))


def _metric_rows(found: Found, runs: Sequence[str]) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(stage, metric, (end, best) of every run); those that people look at first come first."""
    by: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in found["metrics"]:
        by.setdefault((entry["stage"], entry["metric"]), {})[entry["run"]] = entry
    order = list(by)
    order.sort(key=lambda key: _rank(key[1]))  # stable: stages keep their order
    for stage, name in order:
        yield stage, name, [_cell(by[(stage, name)].get(run)) for run in runs]


def _rank(metric: str) -> int:
    """The place of a metric: what people look at first, then the others, then what depends on the machine."""
    if metric in FIRST:
        return FIRST.index(metric)
    return len(FIRST) + of_the_machine(metric)


def _cell(entry: Mapping[str, Any] | None) -> tuple[str, str]:
    if entry is None or entry["end"] is None:
        return DASH, ""
    best = "" if entry["best"] is None else f"best {measure(entry['best'])} at {entry['best_step']}"
    return f"{measure(entry['end'])} at {entry['end_step']}", best


def _terminal_costs(found: Found) -> RenderableType:
    titles, rows = _costs(found)
    shown = [t if t in ("GPU-hours", "USD") else t.lower() for t in titles]
    table = _plain("stage", "run", *shown, numbers=len(titles))
    for c, cells in zip(found["costs"], rows, strict=True):
        table.add_row(c["stage"], c["run"], *cells)
    return table


def _costs(found: Found) -> tuple[list[str], list[list[str]]]:
    """(titles of what was taken, a row for every entry); GPU-hours and dollars only where there are any."""
    hours = any(c["gpu_hours"] for c in found["costs"])
    usd = any(c["usd"] for c in found["costs"])
    titles = ["Attempts", "Tokens", "Time", *(["GPU-hours"] if hours else []), *(["USD"] if usd else [])]
    return titles, [_cost_cells(c, hours, usd) for c in found["costs"]]


def _cost_cells(c: Mapping[str, Any], hours: bool, usd: bool) -> list[str]:
    cells = [DASH if c["attempts"] is None else str(c["attempts"]), compact(c["tokens"]), duration(c["seconds"])]
    cells += [DASH if c["gpu_hours"] is None else f"{c['gpu_hours']:g}"] if hours else []
    return cells + ([DASH if c["usd"] is None else f"{c['usd']:.2f}"] if usd else [])


def _said(value: Any) -> str:
    text = DASH if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


# ------------------------------------------------------------------------------------------------------------ page
def sections(found: Found, sides: Sequence[Side]) -> list[Section]:
    """The sections of the page, in its order; without those that have nothing to show."""
    runs = [r["run"] for r in found["runs"]]
    warned = [*warnings_of(found), *found.get("not_compared", [])]
    out = [Section("differences", "Settings that differ", [_config_table(found, runs)])]
    if warned:
        out.insert(0, Section("notes", "To know before reading", [Bullets(warned, "bad")]))
    curves = [block for name in found["stages"] for block in _curves(name, sides)]
    if curves:
        out.append(Section("curves", "Curves", curves))
    out.append(Section("metrics", "Metrics", [_metrics_table(found, runs)]))
    out.append(Section("costs", "What it took", [_costs_table(found)]))
    lineage = _lineage(sides, list(found["stages"]))
    return [*out, *([Section("lineage", "Lineage", [lineage])] if lineage else [])]


def _config_table(found: Found, runs: Sequence[str]) -> Block:
    if not found["config"]:
        return Text("No setting of a stage differs.")
    rows: list[list[Cell | str]] = [[Cell(name), *values] for name, values in config_lines(found, runs)]
    return Table([Column("Setting"), *(Column(run, text=12) for run in runs)], rows)


def _metrics_table(found: Found, runs: Sequence[str]) -> Table:
    rows: list[list[Cell | str]] = [
        [Cell(name, stage), *(Cell(end, best) for end, best in cells)]
        for stage, name, cells in _metric_rows(found, runs)
    ]
    return Table(
        [Column("Metric"), *(Column(run, True) for run in runs)], rows, "", "The last value and the best one."
    )


def _costs_table(found: Found) -> Table:
    titles, cells = _costs(found)
    rows: list[list[Cell | str]] = [
        [Cell(c["stage"]), c["run"], *row] for c, row in zip(found["costs"], cells, strict=True)
    ]
    return Table([Column("Stage"), Column("Run"), *(Column(t, True) for t in titles)], rows)


def _curves(name: str, sides: Sequence[Side]) -> Iterator[Block]:
    """The curves of one stage: by step, open, and by tokens and seconds, folded. A colour is a run."""
    having = [s for s in sides if name in s.stages and s.stages[name].rows]
    if len(having) < 2:
        return
    looks = {s.label: Look(i % len(SERIES), i // len(SERIES) % 3) for i, s in enumerate(having)}
    legend = [key_of(label, look) for label, look in looks.items()]
    for axis in AXES:
        figures = list(_figures(name, having, looks, axis))
        if figures:
            yield Fold(f"{name}, by {axis}", [Panels(figures, legend=legend)], opened=axis == "step")


def _figures(name: str, sides: Sequence[Side], looks: Mapping[str, Look], axis: str) -> Iterator[Figure]:
    places = {s.label: along(s.stages[name].rows, axis) for s in sides}
    if not any(any(p) for p in places.values()):
        return
    logged = list(dict.fromkeys(k for s in sides for row in s.stages[name].rows[:50] for k in row))
    named = [n for n in logged if n not in ("step", "time", "tokens", "epoch")]
    for metric in sorted(named, key=_rank)[:MOST_FIGURES]:
        panel = _panel(metric)
        series = []
        for side in sides:
            values = [finite(row.get(metric)) for row in side.stages[name].rows]
            series.append(Series(side.label, places[side.label], values, looks[side.label]))
        if max(len(one.points()) for one in series) < 2:  # no curve; the table of metrics has the value
            continue
        figure = line_chart(metric.replace("_", " "), series, panel.share, panel.zero, legend=False, axis=axis)
        if figure is not None:
            yield figure


def _panel(metric: str) -> Panel:
    fits = (p for p in PANELS if any(metric == n or n.endswith("/") and metric.startswith(n) for n in p.names))
    return next(fits, Panel(metric, (metric,)))


def _lineage(sides: Sequence[Side], names: Sequence[str]) -> Table | None:
    """What every stage read, by content: equal hashes are equal inputs."""
    rows: list[list[Cell | str]] = []
    local = [s for s in sides if s.folder is not None]
    for name in names:
        inputs: dict[str, dict[str, str]] = {}
        for side in local:
            assert side.folder is not None
            manifest = None
            with suppress(UserError):  # a torn manifest is among the notes
                manifest = load_manifest(side.folder / name) if name in side.stages else None
            for entry in manifest.inputs.values() if manifest else ():
                inputs.setdefault(str(entry["ref"]), {})[side.label] = str(entry["hash"])[:12]
        for ref, hashes in inputs.items():
            tone: Any = "" if len(set(hashes.values())) < 2 else "bad"
            rows.append([Cell(name), ref, *(Cell(hashes.get(s.label, DASH), tone=tone) for s in local)])
    titles = [Column("Stage"), Column("Reads"), *(Column(s.label) for s in local)]
    note = "The first digits of the SHA-256 of what was read; in colour where it was not the same."
    return Table(titles, rows, "", note) if rows else None
