"""cons@k: is the majority's answer right? Votes are counted by equivalent answers, not by right and wrong.

Equivalence is the verifier's: one answer stands in as the gold and the other is graded against it. Verifiers that need
no gold (countdown, reasoning-gym) have no such comparison; there, answers are the same when their texts are. Of
programs neither can tell, so they have no cons@k.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openr1.records import MASKED, Prompt, Verdict

Pair = tuple[str, str]
Same = Callable[[Sequence[Pair]], list[bool]]


@dataclass
class Votes:
    """The graded samples of one question: how many are correct, and how often each wrong answer came."""

    correct: int
    wrong: Counter[str]

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Votes:
        """Samples without an answer do not vote; masked ones do not count."""
        counted = [v for v in verdicts if v.status not in MASKED]
        right = sum(v.status == "correct" for v in counted)
        return cls(
            right, Counter(" ".join(v.extracted.split()) for v in counted if v.status != "correct" and v.extracted)
        )

    def decided(self) -> bool:
        """Whether merging equivalent wrong answers cannot change the outcome."""
        most = max(self.wrong.values(), default=0)
        votes = sum(self.wrong.values())
        return not self.correct or votes < self.correct or most > self.correct or len(self.wrong) < 2

    def score(self) -> float:
        """1 where the right answer has most votes; ties count in expectation; nobody voted: 0."""
        most = max(self.wrong.values(), default=0)
        if self.correct == 0 or most > self.correct:
            return 0.0
        return 1.0 / (1 + sum(n == self.correct for n in self.wrong.values()))


def cons_at_k(questions: Sequence[Sequence[Verdict]], same: Sequence[Same | None]) -> float | None:
    """Mean over questions of whether the majority answer is correct; None without a gradable question.

    `same[i]` says which pairs of answers to question i are equivalent, None that only equal texts are.
    """
    scores = []
    for verdicts, equivalent in zip(questions, same, strict=True):
        if verdicts and all(v.status in MASKED for v in verdicts):
            continue
        votes = Votes.of(verdicts)
        if equivalent is not None and not votes.decided():
            votes = Votes(votes.correct, merge(votes.wrong, equivalent))
        scores.append(votes.score())
    return sum(scores) / len(scores) if scores else None


def merge(answers: Counter[str], same: Same) -> Counter[str]:
    """Votes with equivalent answers put together under the most frequent one."""
    groups: Counter[str] = Counter()
    for answer, n in answers.most_common():
        heads = list(groups)
        equal = same([(head, answer) for head in heads])
        head = next((h for h, e in zip(heads, equal, strict=True) if e), answer)
        groups[head] += n
    return groups


NO_VOTE = "answers are programs, whose texts do not tell which behave alike"


def can_vote(verifier: str) -> bool:
    """Whether a majority among answers means anything."""
    from openr1.verify import get_verifier

    return get_verifier(verifier).votes


def same_by_verifier(prompt: Prompt) -> Same | None:
    """The equivalence of answers to one prompt."""
    from openr1.verify import get_verifier, grade

    if not get_verifier(prompt.verifier).needs_gold:
        return None
    info = prompt.info

    def same(pairs: Sequence[Pair]) -> list[bool]:
        verdicts = grade(
            [gold for gold, _ in pairs],
            [f"\\boxed{{{answer}}}" for _, answer in pairs],
            prompt.verifier,
            info=[info] * len(pairs),
        )
        return [v.status == "correct" for v in verdicts]

    return same
