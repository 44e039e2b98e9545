"""Runs beside each other: stages aligned by name, the settings that differ, metrics at the end, at best and by step.

The first run is what the others are held against. Nothing here knows how sure a difference is: that needs the same
questions asked on both sides, and is `compare`'s.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from openr1.errors import UserError
from openr1.report.numbers import finite
from openr1.report.sides import Row, Side, SideStage

ABSENT = "(absent)"
# which way is better; of the others nobody can say
HIGHER = ("accuracy", "reward", "reward/")
LOWER = ("loss",)  # of supervised training; that of a policy gradient says nothing
LEFT_OUT = frozenset({"step", "time", "epoch"})
MOST_POINTS = 11  # steps of a metric in the JSON, evenly apart
AXES = ("step", "tokens", "seconds")


def differ(sides: Sequence[Side]) -> dict[str, Any]:
    """`runs`, `stages` (which side has which), `config`, `metrics` and `costs` of the sides.

    Raises UserError where there are fewer than two, or no stage is in two of them.
    """
    if len(sides) < 2:
        raise UserError("compare: one run is nothing to compare; name two or more")
    names = list(dict.fromkeys(n for s in sides for n in s.stages))
    shared = [n for n in names if sum(n in s.stages for s in sides) > 1]
    if not shared:
        lists = "; ".join(f"{s.label}: {', '.join(s.stages)}" for s in sides)
        raise UserError(f"compare: no stage is in two of the runs ({lists}); give runs of one recipe")
    runs = [{"run": s.label, "source": s.source, "recipe": s.recipe, "notes": s.notes} for s in sides]
    return {
        "runs": runs,
        "stages": {n: {s.label: s.stages[n].status if n in s.stages else ABSENT for s in sides} for n in names},
        "config": [entry for n in shared for entry in _config(n, sides)],
        "metrics": [entry for n in shared for entry in _metrics(n, sides)],
        "costs": [_cost(n, s) for n in names for s in sides if n in s.stages],
    }


def labelled(sides: Sequence[Side]) -> list[Side]:
    """The sides with labels that tell them apart."""
    labels = [s.label for s in sides]
    for i, side in enumerate(sides):
        if labels.count(side.label) > 1:
            side.label = str(side.folder) if side.folder else f"{side.label} ({i + 1})"
    return list(sides)


def warnings_of(found: Mapping[str, Any]) -> list[str]:
    """What a reader must know: other recipes, stages that are missing or unfinished, values that are not finite."""
    recipes = {r["run"]: r["recipe"] for r in found["runs"]}
    lines = []
    if len(set(recipes.values())) > 1:
        lines.append("the runs are of different recipes: " + ", ".join(f"{r} {n}" for r, n in recipes.items()))
    for name, states in found["stages"].items():
        missing = [run for run, state in states.items() if state == ABSENT]
        if missing:
            lines.append(f"{name}: not in {', '.join(missing)}")
    lines += [f"{r['run']}: {note}" for r in found["runs"] for note in r["notes"]]
    broken = [m for m in found["metrics"] if m["not_finite"]]
    lines += [f"{m['stage']}: {m['not_finite']} values of {m['metric']} in {m['run']} are not finite" for m in broken]
    return lines


def _config(name: str, sides: Sequence[Side]) -> list[dict[str, Any]]:
    """The settings of a stage that are not the same on all sides that have it."""
    having = [s for s in sides if name in s.stages]
    keys = list(dict.fromkeys(k for s in having for k in s.stages[name].config))
    out = []
    for key in keys:
        values = {s.label: s.stages[name].config.get(key, ABSENT) for s in having}
        first = next(iter(values.values()))
        if any(v != first for v in values.values()):
            out.append({"stage": name, "key": key, "values": values})
    return out


def _metrics(name: str, sides: Sequence[Side]) -> list[dict[str, Any]]:
    """One entry a metric and side: what it was at the end, at its best where one can say, and by step."""
    having = [(s.label, s.stages[name]) for s in sides if name in s.stages and s.stages[name].rows]
    keys = list(dict.fromkeys(k for _, stage in having for row in stage.rows for k in row if k not in LEFT_OUT))
    out: list[dict[str, Any]] = []
    for key in keys:
        for label, stage in having:
            points, better = points_of(stage.rows, key), key not in LOWER or stage.kind != "grpo"
            missing = sum(1 for row in stage.rows if key in row) - len(points)
            if points or missing:
                out.append(
                    {"stage": name, "metric": key, "run": label, **_ends(key, points, better), "not_finite": missing}
                )
    return out


def points_of(rows: Sequence[Row], key: str) -> list[tuple[int, float]]:
    """(step, value) of a metric where it has one."""
    return [(row["step"], v) for row in rows if (v := finite(row.get(key))) is not None]


def _ends(key: str, points: Sequence[tuple[int, float]], better: bool) -> dict[str, Any]:
    if not points:
        return {"steps": 0, "end": None, "end_step": None, "best": None, "best_step": None, "by_step": []}
    step, end = points[-1]
    best = best_of(key, points) if better else None
    last = len(points) - 1
    chosen = sorted({round(i * last / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})
    at = {"best": best[1] if best else None, "best_step": best[0] if best else None}
    return {"steps": len(points), "end": end, "end_step": step, **at, "by_step": [list(points[i]) for i in chosen]}


def best_of(key: str, points: Sequence[tuple[int, float]]) -> tuple[int, float] | None:
    """(step, value) of the best value, where one can say which way is better."""
    if key in LOWER:
        return min(points, key=lambda p: p[1])
    if key in HIGHER or key.startswith("reward/"):
        return max(points, key=lambda p: p[1])
    return None


def along(rows: Sequence[Row], axis: str) -> list[float]:
    """The place of every row on an axis: its step, the tokens seen so far, or the seconds that its steps took."""
    if axis == "step":
        return [float(row["step"]) for row in rows]
    places, total = [], 0.0
    for row in rows:
        if axis == "tokens":
            total = finite(row.get("tokens")) or total
        else:
            total += finite(row.get("seconds/step")) or 0.0
        places.append(total)
    return places


def _cost(name: str, side: Side) -> dict[str, Any]:
    stage: SideStage = side.stages[name]
    known = {k: getattr(stage, k) for k in ("attempts", "tokens", "seconds", "gpu_hours", "usd")}
    return {"stage": name, "run": side.label, **known}


def metrics_csv(found: Mapping[str, Any]) -> str:
    """One row a metric, stage and run."""
    out = io.StringIO()
    columns = ["stage", "metric", "run", "steps", "end", "end_step", "best", "best_step", "not_finite"]
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found["metrics"])
    return out.getvalue()
