"""Settings of an evaluation: which completions are asked for and which statistics are made of them; torch-free."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from openr1.engines.settings import SamplingSettings
from openr1.settings import Settings


class EvaluateSettings(Settings):
    """`greedy`: one completion a problem without chance; `k` completions with `sampling` (0: none).

    `pass_at`: the values of k' for pass@k' (null: powers of two up to k). `cons`: whether the majority answer is graded (cons@k). `prefill`: text
    that every reply is made to begin with.
    """

    GROWTH: ClassVar[frozenset[str]] = frozenset({"k", "pass_at"})

    k: Annotated[int, Field(ge=0)]
    sampling: SamplingSettings
    greedy: bool = True
    pass_at: list[Annotated[int, Field(ge=1)]] | None = None
    cons: bool = True
    prefill: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> EvaluateSettings:
        if not self.greedy and self.k == 0:
            raise ValueError("greedy is false and k is 0, so there is nothing to evaluate; set one of them")
        if self.k and self.sampling.temperature == 0:
            raise ValueError("temperature is 0, so the k samples would be copies; set k: 0 or a temperature above 0")
        too_large = [n for n in self.pass_at or [] if n > max(self.k, 1)]
        if too_large:
            raise ValueError(f"pass_at {too_large} needs at least k = {max(too_large)}, but k is {self.k}")
        return self
