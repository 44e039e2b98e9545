"""The attention that decodes is transformers' own in what it computes, and only while it decodes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_engine import make_model
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from openr1.engines.attention import NAME, grouped_attention, grouped_queries
from openr1.models.source import load_model


@pytest.mark.parametrize(("heads", "groups"), [(9, 3), (4, 1), (4, 4)])
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("masked", [True, False])
def test_it_attends_as_transformers_own(heads: int, groups: int, queries: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(3, h, n, 8, generator=generator) for h, n in ((heads, queries), (groups, 17), (groups, 17))
    )
    mask = torch.ones(3, 1, queries, 17, dtype=torch.bool)
    mask[0, :, :, :6] = False
    module = SimpleNamespace(num_key_value_groups=heads // groups, is_causal=False)
    arguments = (module, query, key, value, mask if masked else None)
    ours, theirs = grouped_attention(*arguments)[0], sdpa_attention_forward(*arguments)[0]  # type: ignore[arg-type]
    assert ours.shape == theirs.shape == (3, queries, heads, 8)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_mask_of_its_own_for_every_head_is_kept() -> None:
    query, key = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 9, 8)
    mask = torch.ones(2, 4, 1, 9, dtype=torch.bool)
    mask[:, 1, :, :5] = False
    module = SimpleNamespace(num_key_value_groups=2, is_causal=False)
    arguments = (module, query, key, key, mask)
    assert torch.allclose(grouped_attention(*arguments)[0], sdpa_attention_forward(*arguments)[0])  # type: ignore[arg-type]


def test_a_model_has_its_own_attention_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = load_model(make_model(tmp_path_factory.mktemp("model") / "tiny"))
    with pytest.raises(ZeroDivisionError), grouped_queries(model):
        assert model.config._attn_implementation == NAME
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with grouped_queries(model):
        assert model.config._attn_implementation == "eager"
