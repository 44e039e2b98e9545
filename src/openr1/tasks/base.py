"""What every task deals in: questions with a normalised key, and the prompts made of them."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Protocol

from openr1.records import Message, Prompt, stable_hash
from openr1.tasks.settings import BaseTask

_LATEX_SPACE = re.compile(r"\\(?:left|right|[,;!: ]|q?quad\b)|\$")
_WORD_END = re.compile(r"[,;:!?.\"'`]+(?=\s|$)")
_SPACE = re.compile(r"\s+")
_LOOSE = re.compile(r"(?<!\w) | (?!\w)")


@dataclass(frozen=True, slots=True)
class Question:
    """A question before it is a prompt. Two questions with one `key` are the same question, however they are put."""

    text: str
    answer: str | None
    key: str
    solution: str | None = None
    messages: list[Message] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that did not become a prompt: where it would have gone, why not, and what it looked like."""

    prompt_id: str
    split: str
    reason: str
    example: str


class Generator(Protocol):
    """A task that makes its problems. `trusted`: its golds are right by construction for its own verifier."""

    verifier: str
    trusted: bool

    def draw(self, index: int, rng: random.Random) -> Question:
        """Another question; `index` counts the draws, `rng` is the split's own."""
        ...

    def solve(self, question: Question, mixture: str | None, rng: random.Random) -> Question:
        """The same question with its solution and whatever belongs to it."""
        ...


def normalise(text: str) -> str:
    """The text of a question with case, spacing, punctuation at the end of words and LaTeX spacing taken out.

    >>> normalise("What is $x + y$?") == normalise("what is  x+y")
    True
    >>> normalise("sort 1 23") == normalise("sort 12 3")
    False
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = _LATEX_SPACE.sub(" ", text)
    text = _WORD_END.sub("", text)
    text = _SPACE.sub(" ", text).strip()
    return _LOOSE.sub("", text)


def text_key(text: str) -> str:
    """The key of a question that is known by its text only."""
    return stable_hash(normalise(text), length=32)


def split_rng(seed: int, *names: str) -> random.Random:
    """A generator that depends on the seed and the names alone: the same in every process."""
    return random.Random(int(stable_hash(seed, *names), 16))


def as_prompt(task: BaseTask, question: Question, verifier: str) -> Prompt:
    """The conversation that asks `question`, with everything its verifier needs."""
    messages: list[Message] = []
    given = question.messages or [Message(role="user", content=question.text)]
    if task.system_prompt is not None and given[0]["role"] != "system":
        messages.append(Message(role="system", content=task.system_prompt))
    last = max(i for i, m in enumerate(given) if m["role"] == "user")
    for i, message in enumerate(given):
        content = message["content"]
        if i == last:
            content = task.instruction.replace("{problem}", content)
        messages.append(Message(role=message["role"], content=content))
    return Prompt(
        task=str(getattr(task, "name", "")),
        messages=messages,
        answer=question.answer,
        verifier=task.verifier or verifier,
        solution=question.solution,
        metadata=json.dumps(question.metadata, ensure_ascii=False, sort_keys=True, default=str),
    )
