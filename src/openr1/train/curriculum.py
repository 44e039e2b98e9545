"""Which prompts are asked when: a curriculum by pass rate, and general prompts from a step on.

The whole order of a run is a function of (seed, settings, prompts, length of the run), so a resume in the middle of it
goes on with the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openr1.errors import UserError
from openr1.records import Prompt, stable_hash
from openr1.train.settings import CurriculumSettings, GRPOSettings


class PromptOrder:
    """The order of the prompts of a run, as rows of `prompts`.

    Prompts are asked in passes: each prompt once, in a seeded order, before any is asked again. `first` is the first
    step of prompts that are not of type reasoning; a new pass over all prompts begins there. With a curriculum a pass
    goes through the difficulties; one that the end of the run cuts off is a seeded draw of the prompts, and does so
    too. Raises UserError for a curriculum where no prompt has a pass rate.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        seed: int,
        curriculum: CurriculumSettings | None = None,
        rates: Mapping[str, float | None] | None = None,
        first: int = 1,
    ) -> None:
        self.ids = [p.prompt_id for p in prompts]
        self.reasoning = [row for row, p in enumerate(prompts) if p.type == "reasoning"]
        self.seed, self.curriculum, self.first = seed, curriculum, first
        self.rates = {i: rate for i in self.ids if (rate := (rates or {}).get(i)) is not None}
        if curriculum is not None and not self.rates:
            raise UserError("curriculum: no prompt has a measured pass rate; give the stage an `rl` output of curate")
        if first > 1 and not self.reasoning:
            raise UserError(f"general_from_step: there is no reasoning prompt to begin with before step {first}")

    def run(self, before: int, total: int) -> list[int]:
        """The rows of a run of `total` prompts, of which the first `before` are of type reasoning only."""
        before = min(before, total)
        early = self._passes("early", self.reasoning, before) if before else []
        return early + self._passes("all", range(len(self.ids)), total - before)

    def _passes(self, phase: str, rows: Sequence[int], count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            found += self._pass(f"{phase} {len(found) // len(rows)}", rows, count - len(found))
        return found

    def _pass(self, name: str, rows: Sequence[int], most: int) -> list[int]:
        asked = sorted(rows, key=lambda row: self._draw(name, row))[:most]
        return asked if self.curriculum is None else sorted(asked, key=lambda row: self._place(name, row))

    def _place(self, name: str, row: int) -> tuple[float, float]:
        """A prompt's place in a curriculum: its difficulty, 1 - pass rate, moved by at most half of `spread` either
        way: what is asked at one time comes from a band of that width. Without a rate it may stand anywhere."""
        assert self.curriculum is not None
        draw, rate = self._draw(name, row, "place"), self.rates.get(self.ids[row])
        if rate is None:
            return draw, draw
        difficulty = 1 - rate if self.curriculum.order == "easy_to_hard" else rate
        return difficulty + self.curriculum.spread * (draw - 0.5), draw

    def _draw(self, name: str, row: int, what: str = "order") -> float:
        """A number in [0, 1) that is a function of the arguments and the seed."""
        return int(stable_hash(self.seed, name, self.ids[row], what), 16) / 16**16


def prompt_order(
    prompts: Sequence[Prompt], settings: GRPOSettings, rates: Mapping[str, float | None] | None, seed: int
) -> PromptOrder | None:
    """The order that a stage's settings ask for; None where it is TRL's own, a shuffle of each epoch."""
    if settings.curriculum is None and settings.general_from_step == 1:
        return None
    return PromptOrder(prompts, seed, settings.curriculum, rates, settings.general_from_step)
