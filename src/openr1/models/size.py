"""How many parameters a model has, from its facts alone; torch-free.

Counted as transformers builds Qwen2, Qwen3, Qwen3-MoE and Llama: grouped-query attention, SwiGLU, RMSNorm. A test
holds the counts against the built models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openr1.models.settings import FACTS, MOE, ModelSettings

SIZED = tuple(name for name in FACTS if name not in (*MOE, "head_dim", "context", "dtype", "rope_theta"))


@dataclass(frozen=True)
class Shape:
    """The sizes that parameters, activations and caches are computed from.

    `q` and `kv` are the widths of queries and of keys (or values). `ffn` is that of one expert in a mixture of
    experts, `active` how many of the `experts` a token goes through (1 of 1 where there are none).
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    q: int
    kv: int
    vocab: int
    tied: bool
    qkv_bias: bool
    qk_norm: bool
    experts: int = 1
    active: int = 1

    @property
    def moe(self) -> bool:
        return self.experts > 1

    @property
    def linears(self) -> dict[str, tuple[int, int, int]]:
        """Linear maps of one layer by module name: inputs, outputs, how many of them."""
        h, n = self.hidden, self.experts
        attention = {"q_proj": (h, self.q, 1), "k_proj": (h, self.kv, 1), "v_proj": (h, self.kv, 1)}
        attention["o_proj"] = (self.q, h, 1)
        return attention | {"gate_proj": (h, self.ffn, n), "up_proj": (h, self.ffn, n), "down_proj": (self.ffn, h, n)}

    @property
    def linear_parameters(self) -> int:
        """Weights of all linear maps in the layers: what a quantised base model quantises."""
        return self.layers * sum(i * o * n for i, o, n in self.linears.values())

    @property
    def layer_parameters(self) -> int:
        """All parameters of one layer."""
        head = self.q // self.heads
        biases = (self.q + 2 * self.kv) * self.qkv_bias
        norms = 2 * self.hidden + 2 * head * self.qk_norm
        router = self.hidden * self.experts * self.moe
        return self.linear_parameters // self.layers + biases + norms + router

    @property
    def embedding(self) -> int:
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, those of all experts included."""
        return self.layers * self.layer_parameters + self.embedding * (1 if self.tied else 2) + self.hidden


# an expert's weights by their name, as transformers and published mixtures of experts have it (a shared expert, which
# every token goes through, is called otherwise); and what config.json calls their number, and how many a token takes
EXPERTS = ".experts."
_MANY = ("num_experts", "num_local_experts", "n_routed_experts")
_TAKEN = ("num_experts_per_tok", "moe_top_k")


def active_parameters(sizes: Iterable[tuple[str, int]], config: Mapping[str, Any]) -> int:
    """How many parameters a token goes through: all, but of the experts only those that it is sent to.

    `sizes` are names of weights and how many numbers each holds, `config` is the model's config.json.
    """
    inner = {**config, **(config.get("text_config") or {})}
    many, taken = (next((inner[k] for k in keys if inner.get(k)), 0) for keys in (_MANY, _TAKEN))
    shared = experts = 0
    for name, size in sizes:
        if EXPERTS in name:
            experts += size
        else:
            shared += size
    return shared + (experts * taken // many if many and taken else experts)


def lacking(model: ModelSettings) -> list[str]:
    """The facts that a shape needs and the settings do not state."""
    names = [*SIZED, *(MOE if model.architecture == "qwen3_moe" else ())]
    return [name for name in names if getattr(model, name) is None]


def shape_of(model: ModelSettings) -> Shape | None:
    """The shape that the facts describe; None where some are not stated."""
    vocab = model.vocab or (_scratch_vocab(model) if model.source == "scratch" else None)
    layers, hidden, ffn, heads, kv_heads = model.layers, model.hidden, model.ffn, model.heads, model.kv_heads
    if not (layers and hidden and ffn and heads and kv_heads and vocab) or model.tie_embeddings is None:
        return None
    if lacking(model) and lacking(model) != ["vocab"]:
        return None
    moe = model.architecture == "qwen3_moe"
    head = model.head_dim or hidden // heads
    return Shape(
        layers=layers,
        hidden=hidden,
        ffn=(model.expert_ffn if moe else ffn) or ffn,
        heads=heads,
        kv_heads=kv_heads,
        q=heads * head,
        kv=kv_heads * head,
        vocab=vocab,
        tied=model.tie_embeddings,
        qkv_bias=model.architecture == "qwen2",
        qk_norm=model.architecture in ("qwen3", "qwen3_moe"),
        experts=(model.experts if moe else 1) or 1,
        active=(model.experts_per_token if moe else 1) or 1,
    )


def _scratch_vocab(model: ModelSettings) -> int | None:
    from openr1.models.tokenizer import vocabulary

    return len(vocabulary(model.tokenizer)) if model.tokenizer else None
