"""The audit of golds: every verifier on its own gold answers, before a model is trained on them.

A gold is bad when it cannot be parsed, when its own verifier rejects it, or when the verifier also accepts a mutated
answer. Two batched passes, so thousands of integer golds cost a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openr1.records import Prompt
from openr1.verify.api import grade_with
from openr1.verify.base import get_verifier


@dataclass(frozen=True, slots=True)
class GoldProblem:
    """Why one prompt's gold cannot grade, with what showed it."""

    prompt_id: str
    reason: str
    example: str


def audit(prompts: Sequence[Prompt]) -> list[GoldProblem]:
    """The prompts whose golds are bad, in order, each once. Raises UserError for an unknown verifier."""
    verifiers = [get_verifier(prompt.verifier) for prompt in prompts]
    infos = [prompt.info for prompt in prompts]
    found: dict[int, GoldProblem] = {}
    rows: list[int] = []
    for i, (prompt, verifier) in enumerate(zip(prompts, verifiers, strict=True)):
        reason = verifier.check_gold(prompt.answer, infos[i])
        if reason is not None:
            found[i] = GoldProblem(prompt.prompt_id, reason, repr(prompt.answer)[:200])
        elif prompt.answer is not None and not verifier.standalone:
            rows.append(i)
    for mutated in (False, True):
        texts = [_completion(prompts[i], mutated) for i in rows]
        verdicts = grade_with(
            [verifiers[i] for i in rows],
            [prompts[i].answer for i in rows],
            texts,
            [infos[i] for i in rows],
            [None] * len(rows),
        )
        for i, text, verdict in zip(rows, texts, verdicts, strict=True):
            if i in found or verdict.status == "infra_error":
                continue
            if mutated and verdict.status == "correct":
                reason = "the verifier accepts a mutated answer"
            elif not mutated and verdict.status != "correct":
                reason = f"the verifier rejects its own gold ({verdict.status}, {verdict.decided_by})"
            else:
                continue
            found[i] = GoldProblem(prompts[i].prompt_id, reason, f"gold {prompts[i].answer!r}, answer {text!r}"[:300])
    return [found[i] for i in sorted(found)]


def _completion(prompt: Prompt, mutated: bool) -> str:
    verifier = get_verifier(prompt.verifier)
    answer = prompt.answer or ""
    return verifier.present(verifier.mutate(answer) if mutated else answer)
