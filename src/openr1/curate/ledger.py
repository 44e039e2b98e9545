"""The compact account of curation: a few numbers for every prompt and completion, and where each of them ended.

Prompts are numbered in file order, completions by (prompt, sample index). Texts are not here, so ten million
completions take about 300 MB.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openr1.curate.rows import Drop
from openr1.records import MASKED, STATUSES

KEPT = 0
STATUS_CODES: dict[str, int] = {name: code for code, name in enumerate(STATUSES)}
NO_STATUS = -1
_MASKED = [STATUS_CODES[s] for s in MASKED]


@dataclass
class Ledger:
    """Columns of prompts and of completions; code 0 in a `…drop` column is a row that is still there.

    `prompt_drop` counts for both sets, `rl_drop` is why a prompt is not in the RL set.
    """

    ids: np.ndarray  # [P] bytes
    repeat: np.ndarray  # [P] bool: an id that a prompt before it has
    sources: dict[str, tuple[np.ndarray, list[str]]]  # by `source` of a mix: [P] codes and what they mean
    prompt: np.ndarray  # [N] number of the prompt, ascending
    sample: np.ndarray  # [N]
    tokens: np.ndarray  # [N] of the completion
    status: np.ndarray  # [N] code, NO_STATUS without verdicts
    prompt_drop: np.ndarray = field(init=False)
    rl_drop: np.ndarray = field(init=False)
    part: np.ndarray = field(init=False)  # [P] 0, or 1 + the number of the part that a split puts it into
    drop: np.ndarray = field(init=False)
    rank: np.ndarray = field(init=False)  # [N] order among the completions of a prompt
    pass_rate: np.ndarray = field(init=False)  # [P] NaN where nothing was graded
    funnel: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        prompts, rows = len(self.ids), len(self.prompt)
        self.prompt_drop = np.zeros(prompts, np.int32)
        self.rl_drop = np.zeros(prompts, np.int32)
        self.part = np.zeros(prompts, np.int8)
        self.drop = np.zeros(rows, np.int32)
        self.rank = self.sample.copy()
        self.pass_rate = self._pass_rates()
        self._codes: dict[tuple[str, Drop], int] = {}
        self._drops: list[tuple[str, Drop]] = [("", Drop(""))]
        if self.repeat.any():
            self.drop_prompts("prompts", np.flatnonzero(self.repeat), Drop("the same prompt again"))
            self.close("prompts", "prompt", prompts)

    def _pass_rates(self) -> np.ndarray:
        """Share of correct ones among the rows that are not masked."""
        scored = (self.status != NO_STATUS) & ~np.isin(self.status, _MASKED)
        n = np.bincount(self.prompt[scored], minlength=len(self.ids))
        right = np.bincount(self.prompt[self.status == STATUS_CODES["correct"]], minlength=len(self.ids))
        return np.divide(right, n, out=np.full(len(self.ids), np.nan), where=n > 0)

    # -- what is left
    def prompts_left(self) -> np.ndarray:
        """Numbers of the prompts that no step has dropped from both sets."""
        return np.flatnonzero(self.prompt_drop == KEPT)

    def rl_left(self) -> np.ndarray:
        return np.flatnonzero(self.rl_drop == KEPT)

    def left(self) -> np.ndarray:
        """Numbers of the completions that are still there."""
        return np.flatnonzero(self.drop == KEPT)

    # -- dropping
    def code(self, step: str, drop: Drop) -> int:
        """The number that stands for a step's drop in the `…drop` columns."""
        key = (step, drop)
        if key not in self._codes:
            self._codes[key] = len(self._drops)
            self._drops.append(key)
        return self._codes[key]

    def what(self, code: int) -> tuple[str, Drop]:
        """(step, drop) of a code."""
        return self._drops[code]

    def drop_prompts(self, step: str, numbers: np.ndarray, drop: Drop, *, rl_only: bool = False) -> None:
        """Drop prompts that are still there; unless `rl_only`, their completions go with them."""
        code = self.code(step, drop)
        self.rl_drop[numbers] = np.where(self.rl_drop[numbers] == KEPT, code, self.rl_drop[numbers])
        if not rl_only:
            self.prompt_drop[numbers] = code

    def drop_completions(self, step: str, numbers: np.ndarray, drop: Drop) -> None:
        self.drop[numbers] = self.code(step, drop)

    def take_completions_along(self) -> None:
        """Completions of dropped prompts go with them, for the same reason."""
        codes = self.prompt_drop[self.prompt]
        self.drop = np.where((self.drop == KEPT) & (codes != KEPT), codes, self.drop).astype(np.int32)

    # -- the funnel
    def close(self, step: str, unit: str, before: int) -> None:
        """Write down what the step did to a unit of which there were `before`."""
        column = self.rl_drop if unit == "prompt" else self.drop
        reasons: Counter[str] = Counter()
        for (name, drop), n in self._counts(column):
            if name == step:
                reasons[drop.reason] += n
        out = before - reasons.total()
        self.funnel.append(
            {"step": step, "unit": unit, "in": before, "out": out, "dropped": dict(sorted(reasons.items()))}
        )

    def reasons(self) -> dict[str, int]:
        """How many went for which reason; prompts that left the RL set under `rl: …`."""
        found: Counter[str] = Counter()
        for column, prefix in ((self.drop, ""), (self.rl_drop, "rl: ")):
            for (_, drop), n in self._counts(column):
                found[prefix + drop.reason] += n
        return dict(sorted(found.items()))

    def _counts(self, column: np.ndarray) -> list[tuple[tuple[str, Drop], int]]:
        """How many rows each drop of a column took."""
        counts = np.bincount(column, minlength=len(self._drops)).tolist()
        return [(self._drops[code], n) for code, n in enumerate(counts) if n and code != KEPT]
