"""Batches of uneven length in two parts, each padded to its own: the same sums, less padding."""

from __future__ import annotations

import torch


def split_by_length(lengths_B: torch.Tensor, worth: float = 0.15) -> list[torch.Tensor]:
    """Row indices in one part, or in two (short, long) where that saves at least `worth` of the padded tokens.

    The cut is the one that leaves the fewest padded tokens; row order within a part is by length, stable.
    """
    rows = len(lengths_B)
    ordered_B, index_B = lengths_B.sort(stable=True)
    longest = ordered_B[-1]
    cuts = torch.arange(1, rows, device=lengths_B.device)
    if rows < 8 or longest == 0:
        return [torch.arange(rows, device=lengths_B.device)]
    cost = cuts * ordered_B[:-1] + (rows - cuts) * longest
    best = int(cost.argmin())
    if cost[best] > (1 - worth) * rows * longest:
        return [torch.arange(rows, device=lengths_B.device)]
    return [index_B[: best + 1], index_B[best + 1 :]]
