"""Several parts as one reward, the only thing that a trainer is handed.

A trainer that is given several functions drops a None among the others' values (TRL does), so a row whose grading
failed on our side would train as if it were wrong. Here a masked verifier-backed part makes the row's total None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from openr1.errors import UserError
from openr1.records import MASKED, Verdict
from openr1.rewards.check import problems
from openr1.rewards.preference import open_scorer
from openr1.rewards.registry import get_reward
from openr1.rewards.settings import PartSettings, RewardSettings
from openr1.rewards.types import RewardBatch, RewardFunction, RewardResult


class ComposedReward:
    """`settings.parts` as one callable. Raises UserError with every problem when it is made from bad settings."""

    def __init__(self, settings: RewardSettings) -> None:
        found = problems(settings)
        if found:
            raise UserError(*found)
        self.settings = settings
        self.functions: dict[str, RewardFunction] = {}
        self.params: dict[str, dict[str, Any]] = {}
        for label, part in settings.parts.items():
            self.functions[label] = get_reward(part.function or label)
            scorer = {} if part.scorer is None else {"scorer": open_scorer(part.scorer, label)}
            self.params[label] = part.params | scorer

    def __call__(self, batch: RewardBatch) -> RewardResult:
        """Totals and parts of a batch, row by row."""
        _check(batch)
        count = {kind: self.settings.parts_for(kind, batch.step) for kind in {p.type for p in batch.prompts}}
        counted = [count[p.type] for p in batch.prompts]  # labels that count, a row
        parts: dict[str, list[float | None]] = {}
        views: dict[tuple[int, ...], RewardBatch] = {tuple(range(len(batch))): batch}
        for label in self.settings.parts:
            rows = tuple(row for row, labels in enumerate(counted) if label in labels)
            view = views.setdefault(rows, batch.take(rows)) if rows else None
            values = run_reward(label, self.functions[label], self.params[label], view) if view is not None else []
            found = dict(zip(rows, values, strict=True))
            parts[label] = [found.get(row) for row in range(len(batch))]
        verdicts = _verdicts(views, len(batch))
        totals = [self._total(row, counted[row], parts, verdicts[row]) for row in range(len(batch))]
        return RewardResult(totals, parts, verdicts)

    def _total(
        self, row: int, labels: list[str], parts: dict[str, list[float | None]], verdict: Verdict | None
    ) -> float | None:
        """The weighted sum of the parts that count in a row; None where one is masked, or where none counts."""
        if verdict is not None and verdict.status in MASKED:
            return None
        settings = {label: self.settings.parts[label] for label in labels}
        present = {label: value for label in labels if (value := parts[label][row]) is not None}
        if len(present) < len(labels) or not labels:
            return None
        closed = any(part.gate and present[label] <= 0 for label, part in settings.items())
        counted = {label: part for label, part in settings.items() if part.gate or not closed}
        return math.fsum(part.weight * present[label] for label, part in counted.items())


def _verdicts(views: Mapping[tuple[int, ...], RewardBatch], n: int) -> list[Verdict | None]:
    """The verdict of every row that a part has asked for."""
    found: dict[int, Verdict] = {}
    for rows, view in views.items():
        found |= dict(zip(rows, view.verdicts or [], strict=False))
    return [found.get(row) for row in range(n)]


def _check(batch: RewardBatch) -> None:
    n = len(batch.completions)
    sizes = {
        "prompts": len(batch.prompts),
        "finish_reasons": len(batch.finish_reasons),
        "token_counts": len(batch.token_counts),
    }
    found = [f"reward batch: {size} {name} for {n} completions" for name, size in sizes.items() if size != n]
    if batch.group_size < 1 or n % max(1, batch.group_size):
        found.append(f"reward batch: {n} completions are no whole groups of {batch.group_size}")
    if found:
        raise UserError(*found)


def run_reward(label: str, function: RewardFunction, params: dict[str, Any], batch: RewardBatch) -> list[float | None]:
    """One part's values; UserError naming the reward, the error and the completion where it fails."""
    try:
        values = function(batch, **params)
    except UserError:
        raise
    except Exception as error:
        raise UserError(_blame(label, function, params, batch, error)) from error
    if not isinstance(values, (list, tuple)) or len(values) != len(batch):
        size = len(values) if isinstance(values, (list, tuple)) else type(values).__name__
        raise UserError(f"reward {label!r} returned {size} values for {len(batch)} completions; return one for each")
    for row, value in enumerate(values):
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            shown = _short(batch.completions[row])
            raise UserError(f"reward {label!r} returned {value!r} for the completion {shown}; return a number or None")
    return [None if value is None else float(value) for value in values]


def _blame(label: str, function: RewardFunction, params: dict[str, Any], batch: RewardBatch, error: Exception) -> str:
    """Which completion made the reward raise: each group is tried again by itself."""
    text = f"reward {label!r} raised {type(error).__name__}: {error}"
    for rows in batch.groups():
        for row in rows:
            try:
                function(batch.take([row], group_size=1), **params)
            except Exception:
                return f"{text}; row {row}, completion {_short(batch.completions[row])}"
    return f"{text}; no single completion does it, the first is {_short(batch.completions[0] if len(batch) else '')}"


def _short(text: str, most: int = 160) -> str:
    return repr(text if len(text) <= most else text[: most // 2] + " … " + text[-most // 2 :])


def diagnose(result: RewardResult, batch: RewardBatch) -> list[str]:
    """Warnings after a first batch: parts that are the same for every row, rows that are masked, with examples."""
    lines = []
    for label, column in result.parts.items():
        values = [value for value in column if value is not None]
        if len(values) > 1 and len(set(values)) == 1:
            shown = "; ".join(_short(text) for text in batch.completions[:3])
            lines.append(
                f"reward {label!r} is {values[0]:g} for all {len(values)} completions of the first batch, so it "
                f"teaches nothing here; three of them: {shown}"
            )
    columns = result.parts.values()
    columns = result.parts.values()
    silent = [i for i, v in enumerate(result.verdicts) if v is None and all(c[i] is None for c in columns)]
    for kind in sorted({batch.prompts[row].type for row in silent}):
        lines.append(f"no part of the reward says anything of the prompts of type {kind} in the first batch")
    masked = [row for row, total in enumerate(result.totals) if total is None]
    if masked:
        reasons = {(v.status, v.detail or "") for row in masked if (v := result.verdicts[row]) is not None}
        why = "; ".join(f"{status}: {detail}" for status, detail in sorted(reasons)[:3])
        lines.append(f"{len(masked)} of {len(result.totals)} rows are masked{' (' + why + ')' if why else ''}")
    return lines


__all__ = ["ComposedReward", "PartSettings", "diagnose", "run_reward"]
