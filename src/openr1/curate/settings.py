"""Settings of curation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openr1.settings import Settings


class CurateSettings(Settings):
    """Rejection sampling and pass-rate bands.

    per_prompt: at most so many completions of one prompt in the SFT set.
    select: which of the acceptable ones, the shortest (tokens) or a seeded random choice.
    format: the form a completion must have to be kept: `strict` (think and answer tags), `native` (R1's own) or `any`.
    pass_rate: prompts whose measured pass rate lies in [low, high] go to the RL set; (0, 1) keeps all measured ones.
    """

    per_prompt: int = Field(ge=1)
    select: Literal["shortest", "random"]
    format: Literal["strict", "native", "any"]
    pass_rate: tuple[float, float]
