"""Procedural tasks of reasoning-gym, graded by their own verifiers; tasks whose verifier is broken are refused."""

from __future__ import annotations

import random
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from openr1.errors import UserError, did_you_mean
from openr1.tasks.base import Question, text_key
from openr1.tasks.settings import ReasoningGymSettings
from openr1.verify.reasoning_gym import BROKEN

CHUNK = 128  # some tasks make all their items at once, so they are asked for few at a time


def config_problems(settings: ReasoningGymSettings) -> list[str]:
    """What is wrong with the task's name and configuration, one line each."""
    from reasoning_gym.factory import DATASETS

    name = settings.dataset
    if name not in DATASETS:
        usable = [n for n in DATASETS if n not in BROKEN]
        return [f"task.dataset: reasoning-gym has no task {name!r}; {did_you_mean(name, usable)}"]
    kind: Any = DATASETS[name][1]
    known = [f.name for f in fields(kind) if f.name not in ("seed", "size")] if is_dataclass(kind) else []
    return [
        f"task.config.{key}: {name} of reasoning-gym has no such parameter; {did_you_mean(key, known)}"
        for key in settings.config
        if key not in known
    ]


class ReasoningGym:
    """Draws items of one task. `seed` selects its stream; splits are disjoint by question, not by stream."""

    verifier = "reasoning_gym"
    trusted = True  # entries carry what their scorer needs; tasks with broken scorers are refused by name

    def __init__(self, settings: ReasoningGymSettings, seed: int) -> None:
        from reasoning_gym.factory import DATASETS

        problems = config_problems(settings)
        if problems:
            raise UserError(*problems)
        self.settings = settings
        kind: Any = DATASETS[settings.dataset][1]
        known = {f.name: f for f in fields(kind)}
        self._known = set(known)
        self._arguments = {k: _like_default(known[k], v) for k, v in settings.config.items()}
        self._seed = seed % 2**30
        self._chunk, self._data = 0, self._open(0)

    def _open(self, chunk: int) -> Any:
        """The task's data set for draws [chunk·CHUNK, (chunk + 1)·CHUNK)."""
        from reasoning_gym.factory import create_dataset

        stream = {"seed": self._seed + chunk * CHUNK, "size": CHUNK}  # items are seeded by seed + index
        settings = self.settings
        try:
            return create_dataset(
                settings.dataset, **self._arguments, **{k: v for k, v in stream.items() if k in self._known}
            )
        except (AssertionError, ValueError, TypeError) as e:
            given = ", ".join(f"{k}={v!r}" for k, v in settings.config.items()) or "its defaults"
            raise UserError(f"task.config: {settings.dataset} of reasoning-gym refuses {given}: {e}") from e

    def draw(self, index: int, rng: random.Random) -> Question:
        chunk, offset = divmod(index, CHUNK)
        if chunk != self._chunk:
            self._chunk, self._data = chunk, self._open(chunk)
        entry = self._data[offset]
        return Question(
            text=entry["question"],
            answer=None if entry["answer"] is None else str(entry["answer"]),
            key=text_key(entry["question"]),
            metadata={"dataset": self.settings.dataset, "entry": entry},
        )

    def solve(self, question: Question, mixture: str | None, rng: random.Random) -> Question:
        return question


def _like_default(field: Any, value: Any) -> Any:
    """YAML has no tuples: a list becomes one where the parameter's default is a tuple."""
    default = field.default if field.default is not MISSING else None
    return tuple(value) if isinstance(value, list) and isinstance(default, tuple) else value
