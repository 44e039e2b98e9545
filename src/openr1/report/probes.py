"""Completions at the same few prompts: of every model side by side, and of each GRPO stage through its training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.report.document import Block, Comparison, Fold, Sample, Section, Text
from openr1.report.load import Run, Stage
from openr1.report.numbers import plural
from openr1.report.samples import greedy_rows

MOST_PROMPTS, MOST_STEPS = 4, 6
_NAME = re.compile(r"step-(\d+)\.parquet")
Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Probed:
    """A stage's answers to its probe prompts: step -> prompt id -> row."""

    stage: Stage
    steps: dict[int, Rows]

    def chosen(self) -> list[int]:
        """At most MOST_STEPS steps, evenly spread, the first and the last among them."""
        steps = sorted(self.steps)
        if len(steps) <= MOST_STEPS:
            return steps
        return sorted({steps[round(i * (len(steps) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)})


def probed(run: Run) -> list[Probed]:
    """Every stage that answered probe prompts; files that cannot be read are left out."""
    found = []
    for stage in run.stages:
        steps: dict[int, Rows] = {}
        for file in sorted((stage.folder / "probes").glob("*.parquet")):
            match = _NAME.fullmatch(file.name)
            if match is None:
                continue
            try:
                rows = pq.read_table(file).to_pylist()
            except (OSError, pa.ArrowInvalid):
                continue
            steps[int(match.group(1))] = {row["prompt_id"]: row for row in rows}
        if steps:
            found.append(Probed(stage, steps))
    return found


def probes_of(run: Run) -> dict[str, list[dict[str, int]]]:
    """For report.json: by stage, how many of the probe prompts were answered correctly at each step."""
    return {
        p.stage.name: [
            {"step": step, "n": len(rows), "correct": sum(r["status"] == "correct" for r in rows.values())}
            for step, rows in sorted(p.steps.items())
        ]
        for p in probed(run)
    }


def probes_section(run: Run, summary: dict[str, Any]) -> Section | None:
    """Fixed prompts in rows: every model beside the others, then each stage through its training, folded."""
    found = probed(run)
    aside = _side_by_side(run, summary["models"], found)
    blocks: list[Block] = []
    if aside:
        lead = "Greedy replies to the same prompts, in the recipe's order; controls are left out."
        blocks += [Text(lead, "quiet"), aside[0]]
        if len(aside) > 1:
            blocks.append(Fold(plural(len(aside) - 1, "more prompt"), aside[1:]))
    for p in found:
        chosen = p.chosen()
        title = f"{p.stage.name} through training: {plural(len(chosen), 'step')} of {len(p.steps)} asked"
        blocks.append(Fold(title, [_through(p, i, chosen) for i in list(p.steps[chosen[-1]])[:MOST_PROMPTS]]))
    return Section("probes", "The same prompts, model by model", blocks) if blocks else None


def _through(p: Probed, prompt_id: str, steps: list[int]) -> Comparison:
    rows = [(f"step {step}", p.steps[step].get(prompt_id)) for step in steps]
    return _comparison(prompt_id, [(title, row) for title, row in rows if row is not None])


def _side_by_side(run: Run, models: dict[str, dict[str, Any]], found: list[Probed]) -> list[Comparison]:
    """One comparison a prompt, a column a model that is no control: the probe prompts that every model answered, else
    those with the smallest ids that all did. Fewer than three models are shown as before and after only."""
    answers: dict[str, Rows] = {}
    for name, entry in models.items():
        stage = run.stage(str(entry["evaluated_by"]))
        maker = run.maker(stage) if stage is not None else None
        if stage is not None and not (maker is not None and maker.is_control):
            answers[name] = greedy_rows(stage)
    for p in found:
        if not p.stage.is_control:
            answers[p.stage.name] = p.steps[max(p.steps)] | answers.get(p.stage.name, {})
    if len(answers) < 3:
        return []
    shared = set.intersection(*(set(rows) for rows in answers.values()))
    asked = list(dict.fromkeys(i for p in found for i in p.steps[max(p.steps)] if i in shared))
    return [
        _comparison(i, [(name, rows[i]) for name, rows in answers.items()])
        for i in (asked or sorted(shared))[:MOST_PROMPTS]
    ]


def _comparison(prompt_id: str, rows: list[tuple[str, dict[str, Any]]]) -> Comparison:
    first = rows[0][1]
    samples = [_sample(title, row) for title, row in rows]
    return Comparison(f"Prompt `{prompt_id}`", str(first["question"] or ""), str(first["gold"] or ""), samples)


def _sample(title: str, row: dict[str, Any]) -> Sample:
    status = str(row["status"])
    detail = f"{plural(int(row['completion_tokens'] or 0), 'token')}"
    if row["finish_reason"] != "stop":
        detail += f", ended by {row['finish_reason']}"
    tone = "good" if status == "correct" else "bad"
    return Sample(title, str(row["completion"] or ""), status.replace("_", " "), tone, detail)  # type: ignore[arg-type]
