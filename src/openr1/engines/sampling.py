"""Drawing tokens so that a row's draws are its own: one generator a row, its uniforms drawn before the first token.

The token is picked by inverse CDF, so a completion is a function of the row's seed and its logits, whatever else is in
the batch. (Padding and batch shape still move the last bits of the logits; so the batch is the unit of commit.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from openr1.engines.settings import SamplingSettings


def draw_uniforms(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), shape (rows, steps), float64, on the CPU; row i depends on seeds[i] only."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(steps, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def filtered_probabilities(logits_BV: torch.Tensor, sampling: SamplingSettings) -> torch.Tensor:
    """Softmax at the temperature with top-k, then top-p, applied; float64, rows sum to 1."""
    scaled = logits_BV.double() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    probabilities = scaled.softmax(dim=-1)
    if sampling.top_p < 1.0:
        ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= sampling.top_p  # mass before the token: the first always stays
        probabilities = probabilities.masked_fill(torch.zeros_like(beyond).scatter(-1, index, beyond), 0.0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return probabilities


def pick(logits_BV: torch.Tensor, uniform_B: torch.Tensor, sampling: SamplingSettings) -> torch.Tensor:
    """One token a row: the argmax when greedy, else the first whose cumulative probability is above the uniform."""
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    cumulative = filtered_probabilities(logits_BV, sampling).cumsum(dim=-1)
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))  # so that rounding never picks a token of no probability
    threshold = torch.minimum(uniform_B.unsqueeze(-1) * total, below)
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
