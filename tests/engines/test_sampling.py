from __future__ import annotations

import pytest
import torch

from openr1.engines.sampling import draw_uniforms, filtered_probabilities, pick
from openr1.engines.settings import SamplingSettings


def sampling(**settings: float) -> SamplingSettings:
    return SamplingSettings.model_validate({"temperature": 1.0, "max_new_tokens": 1} | settings)


LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))


def test_filters_by_hand() -> None:
    def of(**settings: float) -> list[float]:
        return filtered_probabilities(LOGITS, sampling(**settings))[0].tolist()

    assert of() == pytest.approx([0.1, 0.4, 0.2, 0.3])
    assert of(top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert of(top_p=0.7) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert of(top_p=0.71) == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9])
    assert of(top_p=0.01) == pytest.approx([0, 1, 0, 0])
    assert of(temperature=0.5) == pytest.approx([1 / 30, 16 / 30, 4 / 30, 9 / 30])


def test_picks_by_inverse_cdf() -> None:
    points = torch.tensor([0.0, 0.0999, 0.1001, 0.4999, 0.5001, 0.6999, 0.7001, 0.999999999], dtype=torch.float64)
    picked = pick(LOGITS.expand(len(points), -1), points, sampling())
    assert picked.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    edges = torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64)
    assert pick(LOGITS.expand(2, -1), edges, sampling(top_k=2)).tolist() == [1, 3]
    last = torch.tensor([[0.0, 0.0, float("-inf")]]).expand(2, -1)
    assert pick(last, edges, sampling()).tolist() == [0, 1]
    assert pick(LOGITS, points[:1], sampling(temperature=0)).tolist() == [1]


def test_draws_have_the_right_frequencies() -> None:
    n = 20000
    uniforms = draw_uniforms(range(n), 1)[:, 0]
    picked = pick(LOGITS.expand(n, -1), uniforms, sampling())
    shares = torch.bincount(picked, minlength=4) / n
    assert torch.allclose(shares, torch.tensor([0.1, 0.4, 0.2, 0.3]), atol=0.015)


def test_a_rows_uniforms_are_its_own() -> None:
    a, b = draw_uniforms([5, 6, 7], 10), draw_uniforms([7, 5], 4)
    assert torch.equal(a[2, :4], b[0]) and torch.equal(a[0, :4], b[1])
    assert not torch.equal(a[0], a[1])
