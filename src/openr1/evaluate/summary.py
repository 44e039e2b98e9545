"""Completions and verdicts of one model to the numbers of its evaluation, and to the table of samples behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from openr1.engines.base import generation_flops
from openr1.errors import UserError
from openr1.evaluate.consensus import can_vote, cons_at_k, same_by_verifier
from openr1.evaluate.statistics import Counts, clustered, mean_pass_at_k, resampling_only
from openr1.records import MASKED, Completion, Prompt, Verdict, stable_hash
from openr1.rewards.form import is_native, is_strict
from openr1.rewards.language import By, target_share
from openr1.rewards.reflection import reflection_share
from openr1.verify.extract import split_reasoning

MODES = ("greedy", "sampled")
SAMPLES_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("mode", pa.string()),
        ("sample_index", pa.int32()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("completion_tokens", pa.int32()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("extracted", pa.string()),
        ("decided_by", pa.string()),
    ]
)
Answers = Mapping[str, Sequence[Completion]]
Verdicts = Mapping[str, Sequence[Verdict]]


def summarise(
    *,
    model: str,
    prompts: Sequence[Prompt],
    completions: Answers,
    verdicts: Verdicts,
    parameters: int | None = None,
    seconds: float | None = None,
    pass_at: Sequence[int] | None = None,
    cons: bool = True,
    native: bool = False,
    reflection_words: Sequence[str] = (),
    language: str | None = None,
    language_by: By = "identifier",
) -> dict[str, Any]:
    """The numbers of one evaluation.

    `completions` and `verdicts` hold, by mode (`greedy`, `sampled`), rows in the same order. `pass_at` None: powers of
    two up to k. `native`: well-formed means R1's native form instead of the strict think/answer one. `format`,
    `response_tokens`, `truncated` and `no_answer` stand in `greedy` and in `sampled`, each of its own replies, and at
    the top those of the greedy ones, or of the sampled ones where there are no others. Rates are 0 to 1, intervals
    95%; rows masked by a failure of ours count in no accuracy, only in `by_status`; a request that failed for good is
    no reply. FLOPs are those of generating, `generation_flops` of the prompt and generated tokens. `reflection` (with
    `reflection_words`) is the share of replies that hold one of the words, `language` (with `language`) the mean share
    of that language's words in the reasoning of the replies that have words there; both are of the sampled replies
    where there are any: greedy decoding hides what a model says now and then.

    Raises:
        UserError: a mode that is not known, rows that do not match, nothing that could be graded.
    """
    _check(prompts, completions, verdicts)
    ids = list(dict.fromkeys(p.prompt_id for p in prompts))
    grouped = {mode: _by_question(completions[mode], verdicts[mode], ids) for mode in MODES if completions.get(mode)}
    counts = {mode: _counts(groups) for mode, groups in grouped.items()}
    replies = {mode: _replies(completions[mode], verdicts[mode], native) for mode in grouped}
    all_completions = [c for mode in grouped for c in completions[mode]]
    all_verdicts = [v for mode in grouped for v in verdicts[mode]]
    out: dict[str, Any] = {"model": model}
    if "greedy" in counts:
        out["greedy"] = _accuracy(counts["greedy"]) | replies["greedy"]
    if "sampled" in counts:
        out |= _sampled(prompts, grouped["sampled"], counts["sampled"], pass_at, cons)
        out["sampled"] |= replies["sampled"]
    out |= replies["greedy" if "greedy" in replies else "sampled"]
    texts = [c.text for c in completions["sampled" if "sampled" in grouped else "greedy"] if c.error is None]
    if reflection_words:
        share = reflection_share(texts, reflection_words)
        out["reflection"] = {"share": share, "n": len(texts), "words": list(reflection_words)}
    if language is not None:
        out["language"] = _language(texts, language, language_by)
    read = sum(c.prompt_tokens + c.completion_tokens for c in all_completions)
    return out | {
        "tokens": sum(c.completion_tokens for c in all_completions),
        "seconds": seconds,
        "flops": None if parameters is None else generation_flops(parameters, read),
        "by_status": dict(Counter(v.status for v in all_verdicts).most_common()),
        "verifier": ", ".join(sorted({f"{v.verifier}/{v.version}" for v in all_verdicts})),
        "prompt_hash": stable_hash(sorted(ids)),
    }


Group = list[tuple[Completion, Verdict]]


def _check(prompts: Sequence[Prompt], completions: Answers, verdicts: Verdicts) -> None:
    unknown = sorted(set(completions) - set(MODES))
    if unknown:
        raise UserError(f"evaluate: no mode {', '.join(unknown)}; known: {', '.join(MODES)}")
    if not any(completions.values()):
        raise UserError("evaluate: there are no completions to summarise; give at least one mode")
    for mode, rows in completions.items():
        if len(rows) != len(verdicts.get(mode, ())):
            raise UserError(f"evaluate: {len(rows)} {mode} completions, but {len(verdicts.get(mode, ()))} verdicts")
        if len({c.key for c in rows}) < len(rows):
            raise UserError(f"evaluate: some {mode} completions are there twice; each (prompt, sample) counts once")
        strangers = {c.prompt_id for c in rows} - {p.prompt_id for p in prompts}
        if strangers:
            raise UserError(f"evaluate: {len(strangers)} {mode} completions belong to no prompt of this evaluation")


def _by_question(
    completions: Sequence[Completion], verdicts: Sequence[Verdict], ids: Sequence[str]
) -> dict[str, Group]:
    groups: dict[str, Group] = {i: [] for i in ids}
    for completion, verdict in zip(completions, verdicts, strict=True):
        groups[completion.prompt_id].append((completion, verdict))
    return {i: group for i, group in groups.items() if group}


def _counts(groups: Mapping[str, Group]) -> list[Counts]:
    """Correct and graded samples of every question that has a graded one."""
    counts = []
    for group in groups.values():
        graded = [v for _, v in group if v.status not in MASKED]
        if graded:
            counts.append(Counts(sum(v.status == "correct" for v in graded), len(graded)))
    if not counts:
        reasons = Counter(v.status for group in groups.values() for _, v in group)
        raise UserError(f"evaluate: not one completion could be graded ({dict(reasons)}); see the verdicts' detail")
    return counts


def _accuracy(counts: Sequence[Counts]) -> dict[str, float | int]:
    interval = clustered(counts)
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high, "n": len(counts)}


def _sampled(
    prompts: Sequence[Prompt],
    groups: Mapping[str, Group],
    counts: Sequence[Counts],
    pass_at: Sequence[int] | None,
    cons: bool,
) -> dict[str, Any]:
    k = max(len(group) for group in groups.values())
    again = resampling_only(counts)
    ks = [n for n in pass_at if n <= k] if pass_at is not None else [2**i for i in range(k.bit_length())]
    passes = {str(n): mean_pass_at_k(counts, n) for n in ks}
    out: dict[str, Any] = {
        "sampled": _accuracy(counts)
        | {"low_resampling": again and again.low, "high_resampling": again and again.high, "k": k},
        "pass_at": {n: value for n, value in passes.items() if value is not None},
        "cons": None,
    }
    if cons and k > 1 and all(can_vote(v) for v in {p.verifier for p in prompts}):
        by_id = {p.prompt_id: p for p in prompts}
        votes = [[v for _, v in group] for group in groups.values()]
        out["cons"] = cons_at_k(votes, [same_by_verifier(by_id[i]) for i in groups])
    return out


def _replies(completions: Sequence[Completion], verdicts: Sequence[Verdict], native: bool) -> dict[str, float]:
    """Shares of well-formed replies, of those cut at the token limit, of those that ended without an answer.

    A request that failed for good is no reply.
    """
    replies = [c for c in completions if c.error is None]
    n = max(len(replies), 1)
    form = is_native if native else is_strict
    return {
        "format": sum(form(c.text) for c in replies) / n,
        "response_tokens": sum(c.completion_tokens for c in replies) / n,
        "truncated": sum(c.finish_reason == "length" for c in replies) / n,
        "no_answer": sum(v.status == "no_answer" for v in verdicts) / n,
    }


def reasoning_language(text: str, language: str, by: By = "identifier") -> float | None:
    """Share of the target language's words in the reasoning of a completion; None where it has no words."""
    reasoning = split_reasoning(text).reasoning
    return None if reasoning is None else target_share(reasoning, language, by)


def _language(texts: Sequence[str], language: str, by: By) -> dict[str, Any]:
    """Mean share over the replies with words in their reasoning (`n` of them), how many have none, how many mix."""
    shares = [s for text in texts if (s := reasoning_language(text, language, by)) is not None]
    return {
        "share": sum(shares) / len(shares) if shares else None,
        "mixed": sum(s < 1 for s in shares) / len(shares) if shares else None,
        "n": len(shares),
        "without_words": len(texts) - len(shares),
        "language": language,
        "by": by,
    }


def sample_rows(prompts: Sequence[Prompt], completions: Answers, verdicts: Verdicts) -> Iterator[dict[str, Any]]:
    """Every completion with its question and verdict, as rows of SAMPLES_SCHEMA: by mode, question, sample."""
    order = {p.prompt_id: i for i, p in reversed(list(enumerate(prompts)))}
    by_id = {p.prompt_id: p for p in prompts}
    for mode in MODES:
        pairs = zip(completions.get(mode, ()), verdicts.get(mode, ()), strict=True)
        for c, v in sorted(pairs, key=lambda pair: (order[pair[0].prompt_id], pair[0].sample_index)):
            prompt = by_id[c.prompt_id]
            yield {
                "prompt_id": c.prompt_id,
                "question": prompt.question,
                "gold": prompt.answer,
                "mode": mode,
                "sample_index": c.sample_index,
                "completion": c.text,
                "finish_reason": c.finish_reason,
                "completion_tokens": c.completion_tokens,
                "status": v.status,
                "score": v.score,
                "extracted": v.extracted,
                "decided_by": v.decided_by,
            }
