"""Settings of the composed reward."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.records import PromptType
from openr1.settings import Settings
from openr1.verify.settings import JudgeSettings

# functions that rest on the verdict of a prompt's verifier
GRADED = ("accuracy", "reasoning_accuracy", "cosine", "length")
# the types of prompts that a function is made for; all of them where it is not named here
MADE_FOR: dict[str, tuple[PromptType, ...]] = {
    **dict.fromkeys(GRADED, ("reasoning",)),
    "helpful": ("general",),
    "harmless": ("general", "harmlessness"),
}


class ClassifierSettings(Settings):
    """A preference model: any sequence classifier, from a folder or the Hub (`hub:ID@revision`).

    `label`: which class is rewarded, by its name or number; null where the model has one output, the score itself.
    `score`: `logit` as it is, or `probability` (0 to 1). `max_length`: tokens of conversation and reply, of which the
    last are kept (null: the model's own limit). Every process that trains holds one copy.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"device"})

    kind: Literal["classifier"]
    source: str
    revision: str | None = None
    label: str | int | None = None
    score: Literal["logit", "probability"] = "logit"
    max_length: Annotated[int, Field(ge=2)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 8
    device: Literal["auto", "cpu", "cuda"] = "auto"


class RatingSettings(JudgeSettings):
    """A judge behind an OpenAI-compatible endpoint: its rating of a reply, a number from 0 to 10, becomes 0 to 1.

    `rubric` is what it is told to look for (null: the part's own); the form of its answer is added to it.
    """

    kind: Literal["judge"]
    max_answer_chars: int = 200_000


ScorerSettings = Annotated[ClassifierSettings | RatingSettings, Field(discriminator="kind")]


class PartSettings(Settings):
    """One part of the reward. `gate`: the other parts count only in rows where this one is above 0.

    `prompts`: the types of prompts that it is for (null: those that its function is made for; most are for all).
    `from_step`: the optimizer step from which on it counts; before, nothing is computed. `scorer`: who judges, for
    `helpful` and `harmless`.
    """

    weight: float = 1.0
    function: str | None = None
    """A registered name or `module:function`; the part's own label by default."""
    params: dict[str, Any] = Field(default_factory=dict)
    gate: bool = False
    prompts: Annotated[list[PromptType], Field(min_length=1)] | None = None
    from_step: int = Field(default=1, ge=1)
    scorer: ScorerSettings | None = None

    @model_validator(mode="after")
    def _no_scorer_among_params(self) -> PartSettings:
        if "scorer" in self.params:
            raise ValueError("params.scorer: it stands beside params; write scorer: {kind: …} there")
        return self

    def types(self, label: str) -> tuple[PromptType, ...] | None:
        """The types of prompts that the part is for; None: all."""
        return tuple(self.prompts) if self.prompts is not None else MADE_FOR.get(self.function or label)


class RewardSettings(Settings):
    """The parts by label; the total is their weighted sum over the parts that are for the prompt."""

    parts: dict[str, PartSettings] = Field(default_factory=lambda: {"accuracy": PartSettings()})

    def parts_for(self, kind: PromptType, step: int | None = None) -> list[str]:
        """Labels of the parts that count for prompts of a type, at a step (None: once all have begun)."""
        return [
            label
            for label, part in self.parts.items()
            if (step is None or step >= part.from_step) and kind in (part.types(label) or (kind,))
        ]
