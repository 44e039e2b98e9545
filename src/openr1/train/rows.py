"""From conversations to the token ids and labels that SFT trains on; torch-free, since `check --data` counts alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openr1.models.chat import render, render_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


def tokenize(
    rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int | None, whole: bool = False
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """(`input_ids` and `labels` of each row that is kept, reason -> rows dropped).

    Labels are IGNORED on the prompt (unless `whole`). The completion is what the template renders beyond the
    generation prompt, up to its last EOS, so that the model learns to stop there.
    """
    prompts = [render(tokenizer, r["prompt"]) for r in rows]
    texts = [render_whole(tokenizer, [*r["prompt"], *r["completion"]]) for r in rows]
    kept, dropped = [], {"too_long": 0, "prompt_changes": 0, "empty": 0}
    fit = [(p, t[len(p) :]) for p, t in zip(prompts, texts, strict=True) if t.startswith(p)]
    dropped["prompt_changes"] = len(rows) - len(fit)
    if not fit:
        return [], {k: n for k, n in dropped.items() if n}
    heads = tokenizer([p for p, _ in fit], add_special_tokens=False)["input_ids"]
    tails = tokenizer([c for _, c in fit], add_special_tokens=False)["input_ids"]
    for head, tail in zip(heads, tails, strict=True):
        if tokenizer.eos_token_id in tail:
            tail = tail[: len(tail) - tail[::-1].index(tokenizer.eos_token_id)]
        if not tail:
            dropped["empty"] += 1
        elif max_length is not None and len(head) + len(tail) > max_length:
            dropped["too_long"] += 1
        else:
            labels = [*head, *tail] if whole else [IGNORED] * len(head) + tail
            kept.append({"input_ids": [*head, *tail], "labels": labels})
    return kept, {k: n for k, n in dropped.items() if n}
