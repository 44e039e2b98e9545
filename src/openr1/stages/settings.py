"""Settings of every kind of stage, torch-free: what it reads, what it makes, and what of it decides its output.

`inputs` maps an input's name to `<stage>/<output>`; the places are not part of a stage's identity, the content hashes
of what it reads are. `version` goes up when the code of a stage changes what it makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from openr1.curate.settings import CurateSettings
from openr1.engines.settings import EngineSettings, SamplingSettings
from openr1.evaluate.settings import BenchmarkSettings, EvaluateSettings
from openr1.models.settings import ShippedTemplate
from openr1.settings import Settings
from openr1.stages.base_settings import InputSpec, NeedsModel, StageSettings, name_problem, reads
from openr1.stages.publish_settings import PublishStage
from openr1.stages.training_settings import GRPOStage, SFTStage
from openr1.tasks.settings import SplitSettings, TaskSettings

__all__ = [
    "KINDS", "AnyStage", "BenchmarkStage", "CurateStage", "EarlyStopSettings", "EvaluateStage", "ExportSampling",
    "ExportStage", "ExtendContextStage", "GRPOStage", "GenerateStage", "PromptsStage", "PublishStage", "SFTStage",
    "StageSettings", "VerifyStage", "name_problem",
]  # fmt: skip


class PromptsStage(StageSettings):
    """Draw the splits of a task; every split is disjoint from every held-out one by normalised question."""

    kind: Literal["prompts"]
    task: TaskSettings
    splits: dict[str, SplitSettings] = Field(min_length=1)

    def outputs(self) -> dict[str, str]:
        return dict.fromkeys(self.splits, "prompts") | {"dropped": "dropped"}


class EarlyStopSettings(Settings):
    """A prompt is not asked again once `correct` of its completions are right."""

    correct: int = Field(ge=1)


class GenerateStage(NeedsModel):
    """Ask a model for `k` completions of every prompt; each ends in the store as it is done.

    `early_stop`: what is asked next depends on how the answers so far are graded; pass rates rest on fewer samples.
    `token_budget`: generated tokens of the stage over all attempts, after which no request starts; raise it to go on.
    `system_prompt` goes before conversations that have none. `chat_template` names a shipped template that takes the
    place of the model's own. `prefill` is text that every reply is made to begin with; it is part of the completion.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources"})
    GROWTH: ClassVar[frozenset[str]] = frozenset({"k", "early_stop", "token_budget"})
    INPUTS: ClassVar[dict[str, InputSpec]] = {
        "data": reads("prompts", "rl", growth=True),
        "model": reads("model", required=False),
    }

    kind: Literal["generate"]
    engine: EngineSettings
    sampling: SamplingSettings
    k: int = Field(ge=1)
    early_stop: EarlyStopSettings | None = None
    token_budget: int | None = Field(default=None, ge=1)
    system_prompt: str | None = Field(default=None, min_length=1)
    chat_template: ShippedTemplate | None = None
    prefill: str | None = None

    def outputs(self) -> dict[str, str]:
        return {"store": "completions"}


class VerifyStage(StageSettings):
    """Grade every completion of a store with its prompt's verifier; only what has no verdict yet is graded.

    `workers`: processes that grade (null: one a core). `overlap`: whether grading begins while the completions are
    still made (null: with engines vllm and openai, not with transformers, which needs the cores itself).
    """

    INPUTS: ClassVar[dict[str, InputSpec]] = {
        "data": reads("prompts", "rl", growth=True),
        "completions": reads("completions", growth=True),
    }
    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources", "workers", "overlap"})

    kind: Literal["verify"]
    workers: int | None = Field(default=None, ge=1)
    overlap: bool | None = None

    def outputs(self) -> dict[str, str]:
        return {"store": "verdicts"}


class CurateStage(StageSettings):
    """Build an SFT set and an RL set from graded completions; what is left out goes to `dropped` with its reason.

    Without completions it curates prompts, before anything is generated.
    """

    INPUTS: ClassVar[dict[str, InputSpec]] = {
        "data": reads("prompts", "rl"),
        "completions": reads("completions", required=False),
        "verdicts": reads("verdicts", required=False),
    }
    version: ClassVar[int] = 2

    kind: Literal["curate"]
    curate: CurateSettings

    def outputs(self) -> dict[str, str]:
        parts = {f"{kind}_{part}": kind for part in self.curate.parts() for kind in ("sft", "rl")}
        return {"sft": "sft", "rl": "rl", "all": "all", "dropped": "dropped"} | parts

    @model_validator(mode="after")
    def _has_what_its_steps_read(self) -> CurateStage:
        if "verdicts" in self.inputs and "completions" not in self.inputs:
            raise ValueError("inputs: there are verdicts and no completions; name the completions that they judge")
        for step in self.curate.steps:
            missing = [name for name in step.reads() if name not in self.inputs]
            if missing and self.inputs:
                raise ValueError(
                    f"step {step.step} needs the input {' and '.join(missing)}; connect it, or take the step out"
                )
        return self


class ExtendContextStage(NeedsModel):
    """Write a model's configuration anew with a longer context and, mostly, a larger base of its rotary embeddings
    (arXiv 2309.16039, section 2.1); the weights stay as they are and learn the new positions in the stage after it.
    """

    INPUTS: ClassVar[dict[str, InputSpec]] = {"model": reads("model", required=False)}

    kind: Literal["extend_context"]
    context: int = Field(gt=0)
    rope_theta: float | None = Field(default=None, gt=0)

    def outputs(self) -> dict[str, str]:
        return {"model": "model"}


class ExportSampling(Settings):
    """What generation_config.json tells a server to sample with where a request does not say; null is not said."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)


class ExportStage(NeedsModel):
    """Write a model as servers and clouds import it, load it back and compare.

    `dtype` of the weights. `earlier_reasoning`: keep or drop what earlier replies of a conversation thought, null is
    what the model's template does. `shard_gb`: the largest file of weights (10^9 bytes). `compare_tokens`: new tokens
    of each greedy answer that is compared with the source's; 0 compares none, for a model too large for this machine.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources", "compare_tokens"})
    INPUTS: ClassVar[dict[str, InputSpec]] = {"model": reads("model", required=False)}

    kind: Literal["export"]
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    earlier_reasoning: Literal["keep", "drop"] | None = None
    sampling: ExportSampling = ExportSampling()
    shard_gb: float = Field(default=5.0, gt=0)
    compare_tokens: int = Field(default=32, ge=0)

    def outputs(self) -> dict[str, str]:
        return {"model": "model"}


class EvaluateStage(NeedsModel, EvaluateSettings):
    """Answer held-out prompts, once greedily and `k` times sampled, and grade with the verifier of training."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources", "name"})
    INPUTS: ClassVar[dict[str, InputSpec]] = {
        "data": reads("prompts", "rl", growth=True),
        "model": reads("model", required=False),
    }

    kind: Literal["evaluate"]
    engine: EngineSettings
    name: str | None = None

    def outputs(self) -> dict[str, str]:
        return {"samples": "samples"}


class BenchmarkStage(NeedsModel, BenchmarkSettings):
    """Answer benchmarks with one model and grade with the verifiers of training: scores with intervals.

    A model in a folder counts by its content, not by its place. `name` is what the report calls the model.
    """

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"inputs", "resources", "name"})
    INPUTS: ClassVar[dict[str, InputSpec]] = {"model": reads("model", required=False)}

    kind: Literal["benchmark"]
    engine: EngineSettings
    name: str | None = None

    def outputs(self) -> dict[str, str]:
        return {"samples": "samples", "disagreements": "samples"}

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        if self.model_folder is not None:
            found["model"] = found["model"] | {"source": "folder"}
        return found

    @property
    def model_folder(self) -> Path | None:
        """The folder that `model` names, where it names one."""
        source = self.model.source if self.model is not None else None
        return Path(source) if source and Path(source).is_dir() else None


AnyStage = Annotated[
    PromptsStage
    | GenerateStage
    | VerifyStage
    | CurateStage
    | ExtendContextStage
    | SFTStage
    | GRPOStage
    | ExportStage
    | EvaluateStage
    | BenchmarkStage
    | PublishStage,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[StageSettings]] = {
    "prompts": PromptsStage,
    "generate": GenerateStage,
    "verify": VerifyStage,
    "curate": CurateStage,
    "extend_context": ExtendContextStage,
    "sft": SFTStage,
    "grpo": GRPOStage,
    "export": ExportStage,
    "evaluate": EvaluateStage,
    "benchmark": BenchmarkStage,
    "publish": PublishStage,
}
