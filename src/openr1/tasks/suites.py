"""Suites of reasoning-gym tasks as benchmarks: the same questions on every machine, each question once."""

from __future__ import annotations

from functools import cache
from typing import Any

from openr1.errors import UserError
from openr1.records import stable_hash
from openr1.tasks.base import split_rng
from openr1.tasks.definitions import GeneratedSource

PATIENCE = 50  # draws a question that is wanted: past that the task has no more of them


def suite_rows(source: GeneratedSource) -> list[dict[str, Any]]:
    """`each` questions of every task: id, question, answer, and what its scorer needs under `metadata`.

    Raises UserError for a task or a parameter that reasoning-gym does not know, or one with too few questions.
    """
    rows = [row for task in source.tasks for row in _rows(source.model_dump_json(), task)]
    return [dict(row) for row in rows]


@cache
def _rows(source: str, task: str) -> list[dict[str, Any]]:
    from openr1.tasks.reasoning_gym import ReasoningGym
    from openr1.tasks.settings import ReasoningGymSettings

    suite = GeneratedSource.model_validate_json(source)
    settings = ReasoningGymSettings(name="reasoning_gym", dataset=task, config=suite.tasks[task])
    stream = ReasoningGym(settings, int(stable_hash(suite.seed, task), 16))
    draws, seen, rows = split_rng(suite.seed, task), set[str](), list[dict[str, Any]]()
    for index in range(suite.each * PATIENCE):
        question = stream.draw(index, draws)
        if question.key in seen:
            continue
        seen.add(question.key)
        row = {"id": f"{task}/{len(rows)}", "question": question.text, "answer": question.answer}
        rows.append(row | {"metadata": question.metadata})
        if len(rows) == suite.each:
            return rows
    raise UserError(f"{task} of reasoning-gym: {suite.each} questions are wanted, it has {len(rows)} of this range")
