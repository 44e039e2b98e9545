"""Settings of a model: where its weights come from, its facts, and its tokenizer when it is made from scratch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from openr1.errors import did_you_mean
from openr1.models.chat import TEMPLATES
from openr1.settings import Settings

Architecture = Literal["qwen2", "qwen3", "llama", "qwen3_moe"]
SOURCES = "hub:ORG/NAME@REVISION, a path, or pypi:DISTRIBUTION==VERSION"
# what a model from scratch is built from; head_dim and vocab follow from the others
NEEDED = (
    "architecture", "layers", "hidden", "ffn", "heads", "kv_heads", "context", "dtype", "tie_embeddings", "rope_theta",
)  # fmt: skip
MOE = ("experts", "experts_per_token", "expert_ffn")
FACTS = (*NEEDED, "head_dim", "vocab", *MOE)


def _shipped(value: str) -> str:
    if value not in TEMPLATES:
        raise ValueError(f"{value!r} is not a shipped template; {did_you_mean(value, TEMPLATES)}")
    return value


ShippedTemplate = Annotated[str, AfterValidator(_shipped)]


class TokenizerSettings(Settings):
    """A character tokenizer: printable ASCII, newline and `words`, each word one token.

    With `byte_fallback` 256 byte tokens are added, so that any text round-trips exactly; without, a character that is
    not in the vocabulary becomes the unknown token.
    """

    kind: Literal["char"]
    words: list[str] = []
    byte_fallback: bool = False


class ModelSettings(Settings):
    """A model: `source` is `scratch`, `hub:ID@rev` or a bare `org/name`, a path, or `pypi:dist==version`.

    The architecture fields are what `scratch` is built from. For other sources they are facts that may be stated:
    checks use `context` without touching the Hub, and a fact that the model's own config contradicts is refused when
    the model is opened. `vocab: null` means the tokenizer's size. A mixture of experts has `experts` in every layer,
    each with an FFN of `expert_ffn`, of which a token goes through `experts_per_token`; `ffn` is that of dense layers.
    `tokenizer` belongs to `scratch`, `revision` to the Hub. `chat_template` names a shipped template (chatml,
    chatml_think, r1_zero, llama3) that takes the place of the tokenizer's own.
    """

    source: str
    architecture: Architecture | None = None
    layers: int | None = Field(default=None, gt=0)
    hidden: int | None = Field(default=None, gt=0)
    ffn: int | None = Field(default=None, gt=0)
    heads: int | None = Field(default=None, gt=0)
    kv_heads: int | None = Field(default=None, gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    vocab: int | None = Field(default=None, gt=0)
    context: int | None = Field(default=None, gt=0)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    tie_embeddings: bool | None = None
    rope_theta: float | None = Field(default=None, gt=0)
    experts: int | None = Field(default=None, gt=0)
    experts_per_token: int | None = Field(default=None, gt=0)
    expert_ffn: int | None = Field(default=None, gt=0)
    revision: str | None = None
    tokenizer: TokenizerSettings | None = None
    chat_template: ShippedTemplate | None = None

    def identity(self) -> dict[str, Any]:
        """What decides the model: everything for `scratch`, else where its weights and its template come from."""
        if self.source == "scratch":
            return super().identity()
        return {"source": self.source, "revision": self.revision, "chat_template": self.chat_template}

    def facts(self) -> dict[str, Any]:
        """The architecture fields that are set."""
        return {name: value for name in FACTS if (value := getattr(self, name)) is not None}

    @field_validator("source", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if value is None or value == "":
            raise ValueError(f"has no value; set it to {SOURCES}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ModelSettings:
        if self.heads and self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        self._experts()
        if self.source == "scratch":
            self._whole()
        else:
            self._elsewhere()
        return self

    def _experts(self) -> None:
        """The facts of a mixture of experts belong together, and to that architecture."""
        there = [name for name in MOE if getattr(self, name) is not None]
        if there and self.architecture not in (None, "qwen3_moe"):
            raise ValueError(f"{self.architecture} has no experts; remove {', '.join(there)}, or say qwen3_moe")
        lacking = [name for name in MOE if name not in there]
        if lacking and (there or (self.source == "scratch" and self.architecture == "qwen3_moe")):
            raise ValueError(f"a mixture of experts also needs {', '.join(lacking)}")
        if self.experts and self.experts_per_token and self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} is more than the {self.experts} experts")

    def _whole(self) -> None:
        """A model from scratch says everything that it is built from."""
        missing = [name for name in NEEDED if getattr(self, name) is None]
        if missing:
            raise ValueError(f"source is scratch, so it needs {', '.join(missing)}; recipes/model/ has examples")
        if self.tokenizer is None:
            raise ValueError("source is scratch, so it needs a tokenizer: add `tokenizer: {kind: char, words: […]}`")
        if self.revision is not None:
            raise ValueError("source is scratch, which has no revision; remove `revision`")
        assert self.hidden is not None and self.heads is not None
        if self.head_dim is None and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}; set head_dim")

    def _elsewhere(self) -> None:
        """A model that exists has its own tokenizer; only the Hub has revisions."""
        if self.tokenizer is not None:
            raise ValueError(
                f"source {self.source} has a tokenizer of its own; `tokenizer` belongs to source scratch. Use "
                f"`model@stages.<stage>.model=hub stages.<stage>.model.source={self.source}`"
            )
        if self.revision is not None and self.source.startswith(("pypi:", "/", "./", "../", "~")):
            raise ValueError(f"source {self.source} has no revisions; remove `revision`")
