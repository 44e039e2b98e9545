"""Settings of engines and of sampling; torch-free."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from openr1.settings import Settings


class SamplingSettings(Settings):
    """How a completion is drawn. `temperature` 0 is greedy; `top_k` None and `top_p` 1 keep the whole vocabulary."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)]

    def greedy(self) -> SamplingSettings:
        """The same token budget without chance."""
        return SamplingSettings(temperature=0.0, max_new_tokens=self.max_new_tokens)


class TransformersSettings(Settings):
    """Generation with transformers in this process. The batch is the unit of commit and decides, through padding, the
    last bits of the logits; so `batch_size` belongs to what is produced."""

    name: Literal["transformers"]
    batch_size: Annotated[int, Field(ge=1)]
    device: Literal["auto", "cpu", "cuda"] = "auto"

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"device"})


EngineSettings = TransformersSettings  # a union discriminated by `name` once there are several
ENGINES: dict[str, type[TransformersSettings]] = {"transformers": TransformersSettings}
