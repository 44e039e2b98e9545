"""Rewards for the shape of a completion: tags, their number, visible steps. All in linear time."""

from __future__ import annotations

import re
from typing import Literal

from openr1.errors import UserError, did_you_mean
from openr1.rewards.types import RewardBatch

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
Mode = Literal["strict", "tolerant", "graded"]
MODES: tuple[Mode, ...] = ("strict", "tolerant", "graded")


def _once_in_order(text: str, tags: tuple[str, ...]) -> bool:
    places = [text.find(tag) for tag in tags]
    return all(text.count(tag) == 1 for tag in tags) and places == sorted(places)


def is_strict(text: str) -> bool:
    """Exactly `<think>…</think>\\s*<answer>…</answer>`, each tag once, both parts non-empty, nothing around.

    White space at the very end is a tokenizer's business and is let pass.
    """
    text = text.rstrip()
    if not (text.startswith("<think>") and text.endswith("</answer>") and _once_in_order(text, TAGS)):
        return False
    think_end, answer_start = text.index("</think>"), text.index("<answer>")
    if text[think_end + 8 : answer_start].strip():
        return False
    return bool(text[7:think_end].strip()) and bool(text[answer_start + 8 : -9].strip())


def is_tolerant(text: str) -> bool:
    """As strict, but a prefilled `<think>` may be missing and text may stand between and around the blocks."""
    tags = TAGS if "<think>" in text else TAGS[1:]
    if not _once_in_order(text, tags):
        return False
    inside = text[text.index("<answer>") + 8 : text.index("</answer>")]
    return bool(inside.strip())


def is_native(text: str) -> bool:
    """R1's native form: `<think>…</think>` once, the opening tag possibly prefilled, then a non-empty answer."""
    opened = text.count("<think>")
    if text.count("</think>") != 1 or opened > 1:
        return False
    head, _, tail = text.partition("</think>")
    if opened and not head.lstrip().startswith("<think>"):
        return False
    if "<answer>" in tail or "</answer>" in tail:
        return _once_in_order(tail, TAGS[2:]) and bool(tail.strip()) and not head.count("<answer>")
    return bool(tail.strip())


def _graded(text: str, native: bool) -> float:
    """Share of what the strict form asks for: tags once each, in order, nothing around, content inside."""
    tags = TAGS[:2] if native else TAGS
    present = [text.count(tag) == 1 for tag in tags]
    checks = [*present, all(present) and _once_in_order(text, tags), is_native(text) if native else is_strict(text)]
    return sum(checks) / len(checks)


def format(
    batch: RewardBatch,
    *,
    mode: Mode = "strict",
    native: bool = False,
) -> list[float | None]:
    """1 for a well-formed completion, 0 otherwise; `graded` gives the share of the rules that hold.

    The strict form is DeepSeek-R1-Zero's template (arXiv 2501.12948, table 1); `native` asks for R1's own output
    instead, which has no `<answer>`. Nothing may follow the answer, and no block may repeat.
    """
    if mode not in MODES:
        raise UserError(f"reward 'format': mode is {mode!r}: {did_you_mean(mode, MODES)}")
    if mode == "graded":
        return [_graded(text, native) for text in batch.completions]
    check = is_native if native else (is_strict if mode == "strict" else is_tolerant)
    return [float(check(text)) for text in batch.completions]


def format_native(batch: RewardBatch) -> list[float | None]:
    """`format` for R1's native form: reasoning in `<think>`, then the answer as plain text."""
    return [float(is_native(text)) for text in batch.completions]


def tag_count(batch: RewardBatch) -> list[float | None]:
    """A quarter for each of the four tags that stands in the completion exactly once (Open-R1's idea).

    A prefilled `<think>` is part of the completion's text here, so it counts.
    """
    return [0.25 * sum(text.count(tag) == 1 for tag in TAGS) for text in batch.completions]


_STEP_LINE = re.compile(
    r"^[ \t]*(?:\*\*)?(?:step[ \t]+\d{1,3}\b|\d{1,3}[.)][ \t]|[-*•][ \t]|"
    r"(?:first|second|third|next|then|finally|therefore)[a-z]{0,2}\b[,:]?)([^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)


_BARE_MARK = re.compile(r"\b(?:first|second|third|next|then|finally)(?:ly)?\s*,", re.IGNORECASE)


def reasoning_steps(batch: RewardBatch, *, steps: int = 3, min_words: int = 2) -> list[float | None]:
    """Share of `steps` visible steps: lines that begin as a step and go on for `min_words` words (or as many symbols).

    The idea is Open-R1's; a step counts only with content of its own, and the same line counts once, so that
    "First,Second,Next," earns nothing.
    """
    if steps < 1:
        raise UserError(f"reward 'reasoning_steps': steps is {steps}; it must be at least 1")
    rewards: list[float | None] = []
    for text in batch.completions:
        bodies = {" ".join(_BARE_MARK.sub(" ", match.group(1)).split()) for match in _STEP_LINE.finditer(text)}
        solid = [body for body in bodies if len(re.findall(r"\w+|[=+*/^<>-]", body)) >= min_words]
        rewards.append(min(1.0, len(solid) / steps))
    return rewards
