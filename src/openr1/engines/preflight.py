"""What is refused before the first request: every problem of prompts, template and lengths, told at once.

An engine that holds the tokenizer calls `prompt_tokens`; the parts are for engines that know less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openr1.engines.base import Request, request_problems
from openr1.errors import UserError
from openr1.models.chat import render
from openr1.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_tokens(
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    max_new_tokens: int,
    context: int | None,
    prefill: str | None = None,
    eos: Sequence[int] | None = None,
) -> dict[str, list[int]]:
    """Prompt id -> the token ids of the rendered prompt, `prefill` included.

    Args:
        context: tokens that the model has room for; None: not known.
        eos: the token ids that end a reply; None: the tokenizer's own.

    Raises:
        UserError: prompts without text, keys that come twice, a template that is missing or has no generation prompt,
            nothing that ends a reply, prompts that do not fit; one line each.
    """
    problems = request_problems(requests)
    distinct = {r.prompt_id: r for r in requests}
    ids: dict[str, list[int]] = {}
    if distinct:
        ends = bool(eos) if eos is not None else tokenizer.eos_token_id is not None
        wrong = template_problems(tokenizer, next(iter(distinct.values())).messages, ends)
        problems += wrong
        if not wrong:
            texts = [render(tokenizer, r.messages, prefill) for r in distinct.values()]
            found: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
            ids = dict(zip(distinct, found, strict=True))
            problems += length_problems({p: len(t) for p, t in ids.items()}, max_new_tokens, context)
    if problems:
        raise UserError(*problems)
    return ids


def template_problems(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], ends: bool = True) -> list[str]:
    """Why the tokenizer's template cannot ask for a reply. `ends`: whether any token ends one."""
    if not tokenizer.chat_template:
        return ["the model's tokenizer has no chat template; set chat_template (for instance chatml)"]
    problems = []
    turns: Any = [{"role": m["role"], "content": m["content"]} for m in messages]
    if render(tokenizer, messages) == tokenizer.apply_chat_template(turns, tokenize=False):
        problems.append(
            "the model's chat template has no generation prompt, so a reply would begin as another user turn; "
            "set chat_template to a shipped one (for instance chatml)"
        )
    if not ends:
        problems.append("the model's tokenizer has no EOS token, so no reply would end; set one in the model folder")
    return problems


def length_problems(lengths: Mapping[str, int], max_new_tokens: int, context: int | None) -> list[str]:
    """The prompts (id -> tokens) that leave no room for `max_new_tokens` in the model's context, in one line."""
    if context is None or not lengths:
        return []
    over = sum(n + max_new_tokens > context for n in lengths.values())
    if not over:
        return []
    longest = max(lengths, key=lambda p: lengths[p])
    room = context - lengths[longest]
    mend = f"lower max_new_tokens to {room}, or shorten the prompts" if room > 0 else "shorten the prompts"
    return [
        f"{over} of {len(lengths)} prompts do not fit: the longest ({longest}) has {lengths[longest]} tokens, with "
        f"max_new_tokens {max_new_tokens} that is beyond the model's context of {context}; {mend}"
    ]
