"""Completions before and after on the same prompts: what changed, in counts and in a few chosen ones.

The choice is a function of the prompt ids and the verdicts alone, so the same results always show the same prompts:
two prompts taken whatever their outcome (those with the smallest ids), then two of every kind of change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from openr1.records import MASKED
from openr1.report.load import Run, Stage, load_samples

PER_KIND = 2
KINDS = {
    "newly right": (False, True),
    "newly wrong": (True, False),
    "still wrong": (False, False),
}


@dataclass(frozen=True)
class Pair:
    """Two evaluate stages over shared prompts. `before` and `after` map prompt id to the greedy sample's row."""

    before_name: str
    after_name: str
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]

    @property
    def shared(self) -> list[str]:
        """Prompt ids that both measured and neither masked, in order."""
        both = self.before.keys() & self.after.keys()
        return sorted(p for p in both if not (_masked(self.before[p]) or _masked(self.after[p])))

    def outcome(self, prompt_id: str) -> tuple[bool, bool]:
        return _right(self.before[prompt_id]), _right(self.after[prompt_id])

    def transitions(self) -> dict[str, int]:
        """Counts of prompts by what became of them."""
        names = {(True, True): "still right", **{v: k for k, v in KINDS.items()}}
        counts = dict.fromkeys(("newly right", "newly wrong", "still right", "still wrong"), 0)
        for prompt_id in self.shared:
            counts[names[self.outcome(prompt_id)]] += 1
        return counts

    def chosen(self) -> list[tuple[str, str]]:
        """(why it is shown, prompt id) of the prompts to show."""
        fixed = self.shared[:PER_KIND]
        out = [("Fixed choice", p) for p in fixed]
        for kind, wanted in KINDS.items():
            found = [p for p in self.shared if p not in fixed and self.outcome(p) == wanted]
            out += [(kind.capitalize(), p) for p in found[:PER_KIND]]
        return out


def greedy_rows(stage: Stage) -> dict[str, dict[str, Any]]:
    """The stage's rows by prompt id: greedy ones, or where it drew none the first sample of each prompt."""
    table = load_samples(stage)
    if table is None:
        return {}
    greedy = table.filter(pc.fill_null(pc.equal(table["mode"], "greedy"), False))
    rows = greedy if greedy.num_rows else table.filter(pc.fill_null(pc.equal(table["sample_index"], 0), False))
    return {row["prompt_id"]: row for row in rows.to_pylist()}


def pairs_of(run: Run) -> list[Pair]:
    """Every evaluated model beside the evaluated model that it was made from; else the last beside the first."""
    evaluated = [s for s in run.stages if s.done and s.results.get("model")]
    by_maker = {maker.name: s for s in reversed(evaluated) if (maker := run.maker(s)) is not None}
    found: list[tuple[Stage, Stage]] = []
    for after in evaluated:
        before = _origin(run, after, by_maker)
        if before is not None and before is not after:
            found.append((before, after))
    if not found and len(evaluated) > 1:
        found = [(evaluated[0], evaluated[-1])]
    rows = {s.name: greedy_rows(s) for pair in found for s in pair}
    pairs = [Pair(_name(a), _name(b), rows[a.name], rows[b.name]) for a, b in found]
    return [p for p in pairs if p.shared]


def _origin(run: Run, evaluation: Stage, by_maker: dict[str, Stage]) -> Stage | None:
    """The evaluation of the nearest evaluated ancestor, following each stage's `model` input."""
    maker, seen = run.maker(evaluation), set()
    while maker is not None and maker.name not in seen:
        seen.add(maker.name)
        maker = run.maker(maker)
        if maker is not None and maker.name in by_maker:
            return by_maker[maker.name]
    return None


def _name(stage: Stage) -> str:
    return str(stage.results.get("model") or stage.name)


def _right(row: dict[str, Any]) -> bool:
    return row["status"] == "correct"


def _masked(row: dict[str, Any]) -> bool:
    return row["status"] in MASKED
