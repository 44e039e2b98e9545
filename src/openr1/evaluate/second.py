"""A second opinion on math answers: math-verify, with its own extraction, on what stands behind the reasoning.

It decides nothing. Where it and the grader of training disagree, the sample is kept to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from openr1.records import MASKED, Completion, Prompt, Verdict
from openr1.verify.base import Decision, Extracted, Info, Verifier
from openr1.verify.extract import split_reasoning

NAME = "openr1.evaluate.second:MathVerify"
LONGEST = 2_000  # characters of an answer's end that are read


class MathVerify(Verifier):
    """math-verify as its users call it; it runs in the pool's processes, whose limits take the place of its alarm."""

    name = NAME  # the path: the workers import it by its name
    preload = "math_verify"

    def extract(self, completion: str, finish_reason: str | None = None) -> Extracted:
        parts = split_reasoning(completion)
        if parts.opened and not parts.closed:
            return Extracted(None, "no_answer", "the reasoning is not closed")
        return Extracted(parts.answer[-LONGEST:])

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision | None:
        return None

    def decide_slow(self, answer: str, gold: list[str], info: Info) -> Decision:
        from math_verify import parse, verify

        found = parse(answer, parsing_timeout=None)
        if not found:
            return Decision("no_answer", "math_verify")
        golds = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in gold]
        right = any(verify(g, found, timeout_seconds=None) for g in golds if g)
        return Decision("correct" if right else "wrong", "math_verify")


def second_opinions(
    prompts: Sequence[Prompt], completions: Sequence[Completion], verdicts: Sequence[Verdict]
) -> list[str | None]:
    """math-verify's status for every completion; None where it is not asked (not math, masked, failed for good)."""
    from openr1.verify import grade

    asked = [
        i for i, (p, c, v) in enumerate(zip(prompts, completions, verdicts, strict=True))
        if p.verifier == "math" and c.error is None and v.status not in MASKED
    ]  # fmt: skip
    found = grade([prompts[i].answer for i in asked], [completions[i].text for i in asked], NAME)
    out: list[str | None] = [None] * len(prompts)
    for i, verdict in zip(asked, found, strict=True):
        out[i] = verdict.status
    return out


def disagrees(status: str, second: str | None) -> bool:
    """Whether the two graders differ about right or wrong; what either could not grade in time says nothing."""
    unsaid = {None, "timeout", "error", *MASKED}
    return second not in unsaid and status not in unsaid and (status == "correct") != (second == "correct")
