"""The numbers of one benchmark, from its graded samples: accuracy with two intervals and what it hides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from openr1.evaluate.consensus import NO_VOTE, Same, can_vote, cons_at_k, same_by_verifier
from openr1.evaluate.settings import BenchmarkSettings
from openr1.evaluate.statistics import (
    TOO_FEW,
    Counts,
    Interval,
    clustered,
    mean_pass_at_k,
    rare_outcomes,
    resampling_only,
)
from openr1.evaluate.summary import reasoning_language
from openr1.records import MASKED, Completion, Prompt, Verdict, stable_hash
from openr1.rewards.language import By, target_share
from openr1.tasks.definitions import Benchmark
from openr1.tasks.questions import LETTERS, BenchmarkQuestion
from openr1.verify.choice import parse_choice

LEAST_BUDGET = 32  # tokens
SCRIPTS = frozenset({"zh", "ja", "ko", "ru", "ar", "th", "he", "el"})  # told by their letters; others by py3langid


@dataclass(frozen=True)
class Sample:
    """One answer to one question, graded. `second`: the second grader's status, where it was asked."""

    question: BenchmarkQuestion
    prompt: Prompt
    completion: Completion
    verdict: Verdict
    second: str | None = None

    @property
    def counts(self) -> bool:
        return self.verdict.status not in MASKED

    @property
    def right(self) -> bool:
        return self.verdict.status == "correct"

    @property
    def cut(self) -> bool:
        return self.completion.finish_reason == "length"

    def right_within(self, budget: int, full: int) -> bool:
        """Whether it would have been right with that many new tokens: the same draws, cut there."""
        return self.right and (budget >= full or self.completion.completion_tokens <= budget)


def score(
    benchmark: Benchmark,
    settings: BenchmarkSettings,
    name: str,
    samples: Sequence[Sample],
    flagged: set[str] | None = None,
) -> dict[str, Any]:
    """What `openr1 evaluate` says of one benchmark (`docs/evaluate.md` explains every entry).

    `samples` are of the questions asked, in any order; `flagged` the ids of the problems that stand in training data,
    None where nobody looked. `accuracy` and all that follows it are None where not one sample could be graded.
    """
    full = settings.sampling_of(name).max_new_tokens
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        groups.setdefault(s.question.id, []).append(s)
    counted = [s for s in samples if s.counts]
    replies = [s for s in samples if s.completion.error is None]
    out = {
        **accuracy_of(groups.values()),
        "k": max((len(g) for g in groups.values()), default=0),
        **_several(settings, groups),
        **_shares(replies),
        "lengths": _lengths([s.completion.completion_tokens for s in replies]),
        "untruncated": accuracy_of([[s for s in g if not s.cut] for g in groups.values()]),
        "budget_curve": budget_curve(groups.values(), full),
        "tokens": sum(s.completion.completion_tokens for s in samples),
        "by_status": dict(Counter(s.verdict.status for s in samples).most_common()),
        "masked": len(samples) - len(counted),
        "identical": _identical(groups.values()),
        "contamination": _clean(groups, flagged),
        "second_grader": _second(samples),
    }
    if benchmark.language_consistency:
        by: By = "script" if benchmark.language in SCRIPTS else "identifier"
        out["language"] = _language(replies, benchmark.language, by)
    return out


def question_hash(settings: BenchmarkSettings, questions: Sequence[BenchmarkQuestion]) -> str:
    """Equal for equal questions, put in the same words."""
    return stable_hash(sorted(q.id for q in questions), settings.system_prompt, settings.prefill)


def accuracy_of(groups: Any) -> dict[str, Any]:
    """n, accuracy, its two intervals and whether they can be relied on, of the gradable samples by question."""
    counts = [c for g in groups if (c := _counts(g)).n]
    if not counts:
        return {"n": 0, "accuracy": None, **_ends(None), **_ends(None, "_resampling"), "unreliable": "nothing graded"}
    one = clustered(counts)
    few = "too few failures" if one.value >= 0.5 else "too few successes"
    return {
        "n": len(counts),
        "accuracy": one.value,
        **_ends(one),
        **_ends(resampling_only(counts), "_resampling"),
        "unreliable": few if rare_outcomes(counts) < TOO_FEW else None,
    }


def _counts(group: Sequence[Sample]) -> Counts:
    graded = [s for s in group if s.counts]
    return Counts(sum(s.right for s in graded), len(graded))


def _ends(interval: Interval | None, suffix: str = "") -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval is not None else (None, None)
    return {f"low{suffix}": low, f"high{suffix}": high}


def _several(settings: BenchmarkSettings, groups: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """pass@k and cons@k."""
    counts = [c for g in groups.values() if (c := _counts(g)).n]
    k = max((len(g) for g in groups.values()), default=0)
    wanted = settings.pass_at if settings.pass_at is not None else [2**i for i in range(k.bit_length())]
    passes = {str(n): value for n in wanted if (value := mean_pass_at_k(counts, n)) is not None}
    cons = None
    voting = all(can_vote(v) for v in {s.prompt.verifier for g in groups.values() for s in g})
    if settings.cons and k > 1 and voting:
        votes = [[_ballot(s) for s in g] for g in groups.values()]
        cons = cons_at_k(votes, [_same(g[0]) for g in groups.values()])
    return {"pass_at": passes, "cons": cons, "no_cons": NO_VOTE if settings.cons and k > 1 and not voting else None}


def _ballot(sample: Sample) -> Verdict:
    """The verdict with what was voted for: where the choices were shuffled, the choice itself and not its letter."""
    verdict, shown = sample.verdict, sample.prompt.info.get("choices")
    if not sample.question.shuffled or verdict.extracted is None or not shown:
        return verdict
    letters, _ = parse_choice(verdict.extracted)
    places = sorted(LETTERS.index(x) for x in letters if LETTERS.index(x) < len(shown))
    return replace(verdict, extracted=" | ".join(sorted(shown[i] for i in places)) or verdict.extracted)


def _same(sample: Sample) -> Same | None:
    return None if sample.question.shuffled else same_by_verifier(sample.prompt)


def _shares(replies: Sequence[Sample]) -> dict[str, float | None]:
    """Shares of replies cut at the token limit, without an answer, with thinking that never closed."""
    n = len(replies)
    return {
        "truncated": sum(s.cut for s in replies) / n if n else None,
        "no_answer": sum(s.verdict.status == "no_answer" for s in replies) / n if n else None,
        "unclosed": sum(s.completion.answer_start is None for s in replies) / n if n else None,
    }


def _lengths(tokens: Sequence[int]) -> dict[str, float]:
    """Tokens of a reply: mean, median, 90th and 99th of a hundred, longest."""
    if not tokens:
        return {}
    ranked = sorted(tokens)
    at = {f"p{q}": ranked[min(len(ranked) - 1, q * len(ranked) // 100)] for q in (90, 99)}
    return {"mean": fmean(ranked), "median": median(ranked), **at, "max": ranked[-1]}


def budget_curve(groups: Any, full: int) -> list[dict[str, Any]]:
    """Accuracy at smaller token budgets, from the same samples: one that ended later would have been cut, so wrong."""
    budgets = [2**i for i in range(LEAST_BUDGET.bit_length() - 1, full.bit_length()) if 2**i < full] + [full]
    graded = [[s for s in g if s.counts] for g in groups]
    graded = [g for g in graded if g]
    curve = []
    for budget in budgets if graded else []:
        found = clustered([Counts(sum(s.right_within(budget, full) for s in g), len(g)) for g in graded])
        curve.append({"budget": budget, "accuracy": found.value, "low": found.low, "high": found.high})
    return curve


def _identical(groups: Any) -> int:
    """Questions whose samples, two or more of them, are all the same text."""
    texts = [[s.completion.text for s in g if s.completion.error is None] for g in groups]
    return sum(len(t) > 1 and len(set(t)) == 1 for t in texts)


def _clean(groups: Mapping[str, Sequence[Sample]], flagged: set[str] | None) -> dict[str, Any] | None:
    if flagged is None:
        return None
    clean = accuracy_of([g for i, g in groups.items() if i not in flagged])
    return {"flagged": sum(i in flagged for i in groups), "clean": clean}


def _second(samples: Sequence[Sample]) -> dict[str, Any] | None:
    from openr1.evaluate.second import disagrees

    every = [s for s in samples if s.second is not None]
    asked = [s for s in every if s.second not in MASKED]
    if not every:
        return None
    differ = [s for s in asked if disagrees(s.verdict.status, s.second)]
    return {
        "name": "math-verify",
        "asked": len(asked),
        "failed": len(every) - len(asked),
        "disagreements": len(differ),
        "only_first_says_correct": sum(s.right for s in differ),
        "only_second_says_correct": sum(not s.right for s in differ),
    }


def _language(replies: Sequence[Sample], language: str, by: By) -> dict[str, Any]:
    """Mean share of the language's words: in the reasoning where there is one, else in the reply."""
    shares = []
    for s in replies:
        share = reasoning_language(s.completion.text, language, by)
        if share is None:
            share = target_share(s.completion.text, language, by)
        if share is not None:
            shares.append(share)
    mean = fmean(shares) if shares else None
    return {"language": language, "share": mean, "n": len(shares), "without_words": len(replies) - len(shares)}
