"""Settings of an evaluation: which completions are asked for and which statistics are made of them; torch-free."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.engines.settings import SamplingSettings
from openr1.settings import Settings


class EvaluateSettings(Settings):
    """`greedy`: one completion a problem without chance; `k` completions with `sampling` (0: none).

    `pass_at`: the values of k' for pass@k' (null: powers of two up to k). `cons`: whether the majority answer is
    graded (cons@k). `prefill`: text that every reply is made to begin with. `reflection_words`: count the replies that
    hold one of them. `language`: measure the share of its words in the reasoning; `language_by` says how a word's
    language is decided. `format`: which form counts as well-formed, the strict think/answer one or R1's native one
    (reasoning in think tags, then plain text). What is only counted on replies is growth: changing it asks no model
    again.
    """

    GROWTH: ClassVar[frozenset[str]] = frozenset(
        {"k", "pass_at", "format", "reflection_words", "language", "language_by"}
    )

    k: Annotated[int, Field(ge=0)]
    sampling: SamplingSettings
    greedy: bool = True
    pass_at: list[Annotated[int, Field(ge=1)]] | None = None
    cons: bool = True
    prefill: str | None = None
    format: Literal["strict", "native"] = "strict"
    reflection_words: list[str] = []
    language: str | None = None
    language_by: Literal["identifier", "script"] = "identifier"

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


Metric = Literal["greedy", "sampled", "format", "language", "response_tokens", "reflection"]


class ClaimSettings(Settings):
    """A claim of the paper that a run can test: the model `higher` is above the model `lower` in `metric`.

    `claim`: the paper's words, plainly; `source`: its section or table. `higher` and `lower` are names of models in
    the report. `note`: what a reader must know before comparing with the paper.
    """

    id: str
    claim: str
    source: str
    higher: str
    lower: str
    metric: Metric = "greedy"
    note: str | None = None
