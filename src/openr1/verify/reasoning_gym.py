"""reasoning-gym's own scorers behind our extraction: only a score of exactly 1.0 is correct.

`info` holds `dataset` (the task's name) and `entry` (the whole entry). The answer is extracted first, because several
scorers give part credit for a substring. Scorers run in a worker: some are slow, and they read text that a model
wrote.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from openr1.verify.base import Decision, Info, Verifier
from openr1.verify.text import strip_math_delimiters

BROKEN: dict[str, str] = {
    "game_of_life_halting": "its scorer pays any answer",
    "prime_factorization": "its scorer raises",
    "rubiks_cube": "its scorer rejects the stored answers",
    "propositional_logic": "its scorer rejects the stored answers",
    "boxnet": "its scorer rejects the stored answers",
    "graph_color": "its scorer rejects the stored answers",
    "rush_hour": "its scorer rejects the stored answers",
}
"""Tasks of reasoning-gym 0.1.25 that cannot grade, and why."""


def entry_of(info: Info) -> dict[str, Any] | None:
    """The entry, decoded when it is JSON text."""
    entry = info.get("entry")
    if isinstance(entry, str):
        try:
            entry = json.loads(entry)
        except ValueError:
            return None
    return entry if isinstance(entry, dict) else None


@cache
def _scorer(dataset: str) -> Any:
    from reasoning_gym.factory import get_score_answer_fn

    return get_score_answer_fn(dataset)


class ReasoningGymVerifier(Verifier):
    """Correct when the task's scorer gives 1.0 to the extracted answer, or the answer is the stored one verbatim."""

    name = "reasoning_gym"
    needs_gold = False
    preload = "reasoning_gym"
    cpu_seconds = 2.0

    def check_gold(self, gold: Any, info: Info | None = None) -> str | None:
        info = info or {}
        dataset, entry = info.get("dataset"), entry_of(info)
        if not isinstance(dataset, str) or entry is None:
            return "info has no `dataset` and `entry` of reasoning-gym"
        if dataset in BROKEN:
            return f"reasoning-gym's {dataset} cannot grade: {BROKEN[dataset]}"
        if "answer" not in entry and gold is None:
            return "the entry has no answer"
        return None

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision | None:
        stored = (entry_of(info) or {}).get("answer")
        if isinstance(stored, str) and stored.strip() and stored.strip() in (answer, strip_math_delimiters(answer)):
            return Decision("correct", "verbatim")
        if len(answer) > 20_000:
            return Decision("error", "screen", "too long for a scorer")
        return None

    def decide_slow(self, answer: str, gold: list[str], info: Info) -> Decision:
        score_answer = _scorer(info["dataset"])
        best = 0.0
        for candidate in dict.fromkeys((answer, strip_math_delimiters(answer))):
            best = max(best, float(score_answer(answer=candidate, entry=entry_of(info))))
        return Decision("correct" if best == 1.0 else "wrong", "reasoning_gym", f"score {best:g}")

    def relevant(self, info: Info) -> Info:
        return {"dataset": info.get("dataset"), "entry": info.get("entry")}
