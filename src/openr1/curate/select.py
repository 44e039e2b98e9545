"""Rejection sampling to an SFT set, and an RL set of prompts within a band of pass rates.

Every completion ends in exactly one place: the SFT set, or `dropped` with a reason. A prompt's pass rate is taken over
the rows that are not masked (law 1); a prompt without any such row has none, and goes to neither set.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openr1.curate.settings import CurateSettings
from openr1.records import MASKED, Completion, Prompt, Verdict, stable_hash
from openr1.rewards.form import is_native, is_strict

Key = tuple[str, int]

FORMS = {"strict": is_strict, "native": is_native}


@dataclass
class Curated:
    """Rows of the four outputs, and the funnel: counts by reason."""

    sft: list[dict[str, Any]] = field(default_factory=list)
    rl: list[dict[str, Any]] = field(default_factory=list)
    all: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


def curate(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    verdicts: Mapping[Key, Verdict],
    settings: CurateSettings,
    seed: int,
) -> Curated:
    """Split `completions` of `prompts` into the sets of `Curated`; order and content depend on the arguments only."""
    by_prompt: dict[str, list[Completion]] = defaultdict(list)
    for completion in completions:
        by_prompt[completion.prompt_id].append(completion)
    out = Curated()
    for prompt in prompts:
        rows = sorted(by_prompt.get(prompt.prompt_id, []), key=lambda c: c.sample_index)
        graded = [(c, verdicts[c.key]) for c in rows]
        rate = pass_rate([v for _, v in graded])
        out.all.append(_all_row(prompt, graded, rate))
        _select(prompt, graded, rate, settings, seed, out)
        _to_rl(prompt, rate, settings, out)
    random.Random(seed).shuffle(out.sft)
    return out


def pass_rate(verdicts: Sequence[Verdict]) -> float | None:
    """Share of correct ones among the rows that are not masked; None where there are none."""
    scores = [v.score for v in verdicts if v.score is not None]
    return sum(scores) / len(scores) if scores else None


def _select(
    prompt: Prompt,
    graded: Sequence[tuple[Completion, Verdict]],
    rate: float | None,
    settings: CurateSettings,
    seed: int,
    out: Curated,
) -> None:
    seen: set[str] = set()
    good: list[tuple[Completion, Verdict]] = []
    for completion, verdict in graded:
        reason = _fault(completion, verdict, settings.format)
        if reason is None and completion.text in seen:
            reason = "same text as another sample"
        if reason is not None:
            _drop(out, prompt, completion, verdict, reason)
            continue
        seen.add(completion.text)
        good.append((completion, verdict))
    if settings.select == "shortest":
        good.sort(key=lambda g: (g[0].completion_tokens, g[0].sample_index))
    else:
        good.sort(key=lambda g: stable_hash(seed, *g[0].key))
    for completion, verdict in good[settings.per_prompt :]:
        _drop(out, prompt, completion, verdict, f"more than {settings.per_prompt} of the prompt")
    out.sft.extend(_sft_row(prompt, c, rate) for c, _ in good[: settings.per_prompt])


def _fault(completion: Completion, verdict: Verdict, form: str) -> str | None:
    if completion.error is not None:
        return "request failed"
    if verdict.status in MASKED:
        return f"not graded: {verdict.status}"
    if verdict.status != "correct":
        return verdict.status
    if completion.finish_reason != "stop":
        return "cut at the token limit"
    if form != "any" and not FORMS[form](completion.text):
        return f"not of the {form} form"
    return None


def _drop(out: Curated, prompt: Prompt, completion: Completion, verdict: Verdict, reason: str) -> None:
    out.reasons[reason] += 1
    out.dropped.append(
        {
            "prompt_id": prompt.prompt_id,
            "sample_index": completion.sample_index,
            "question": prompt.question,
            "answer": prompt.answer,
            "completion": completion.text,
            "status": verdict.status,
            "reason": reason,
        }
    )


def _sft_row(prompt: Prompt, completion: Completion, rate: float | None) -> dict[str, Any]:
    return {
        "prompt_id": prompt.prompt_id,
        "sample_index": completion.sample_index,
        "problem": prompt.question,
        "answer": prompt.answer,
        "messages": [*prompt.messages, {"role": "assistant", "content": completion.text}],
        "completion_tokens": completion.completion_tokens,
        "pass_rate": rate,
    }


def _all_row(prompt: Prompt, graded: Sequence[tuple[Completion, Verdict]], rate: float | None) -> dict[str, Any]:
    return {
        "prompt_id": prompt.prompt_id,
        "problem": prompt.question,
        "answer": prompt.answer,
        "verifier": prompt.verifier,
        "generations": [c.text for c, _ in graded],
        "finish_reasons": [c.finish_reason for c, _ in graded],
        "statuses": [v.status for _, v in graded],
        "correctness_count": sum(v.status == "correct" for _, v in graded),
        "pass_rate": rate,
    }


def _to_rl(prompt: Prompt, rate: float | None, settings: CurateSettings, out: Curated) -> None:
    low, high = settings.pass_rate
    if rate is None or not low <= rate <= high:
        reason = "no graded sample" if rate is None else f"pass rate outside {low:g}–{high:g}"
        out.reasons[f"rl: {reason}"] += 1
        return
    out.rl.append(
        {
            "prompt_id": prompt.prompt_id,
            "task": prompt.task,
            "messages": prompt.messages,
            "answer": prompt.answer,
            "verifier": prompt.verifier,
            "solution": prompt.solution,
            "metadata": prompt.metadata,
            "pass_rate": rate,
        }
    )
