from __future__ import annotations

import torch
from transformers import Qwen3Config
from transformers.cache_utils import DynamicLayer

from openr1.engines.cache import GrowingLayer, growing_cache


def states(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, length, 4), torch.randn(rows, 2, length, 4)


def test_it_holds_what_transformers_own_layer_holds() -> None:
    torch.manual_seed(0)
    ours, theirs = GrowingLayer(), DynamicLayer()

    def both(operation: str, *args: object) -> None:
        a, b = (getattr(layer, operation)(*args) for layer in (ours, theirs))
        if operation == "update":
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)
        assert ours.get_seq_length() == theirs.get_seq_length()

    both("update", *states(6, 10))
    for _ in range(200):  # beyond the first room, several times
        both("update", *states(6, 1))
    both("batch_select_indices", torch.tensor([0, 1, 4]))
    both("update", *states(3, 1))
    both("crop", -5)
    both("update", *states(3, 2))
    both("reorder_cache", torch.tensor([2, 0, 1]))
    both("batch_repeat_interleave", 2)
    both("update", *states(6, 1))


def test_rows_that_leave_make_no_new_room_and_no_more_room_is_made_than_is_needed() -> None:
    torch.manual_seed(0)
    layer, theirs = GrowingLayer(100), DynamicLayer()
    for length in (50, *[1] * 25):
        new = states(6, length)
        layer.update(*new)
        theirs.update(*new)
    assert layer.keys.untyped_storage().nbytes() == 6 * 2 * 100 * 4 * 4  # 100, not twice 64
    where = layer.keys.data_ptr()
    for rows in ([0, 2, 5], [1, 2]):
        for one in (layer, theirs):
            one.batch_select_indices(torch.tensor(rows))
        new = states(len(rows), 1)
        assert torch.equal(layer.update(*new)[0], theirs.update(*new)[0])
        assert torch.equal(layer.values, theirs.values)
    assert layer.keys.data_ptr() == where


def test_only_full_attention_layers_are_replaced() -> None:
    config = Qwen3Config(
        num_hidden_layers=2,
        layer_types=["full_attention", "sliding_attention"],
        sliding_window=4,
        use_sliding_window=True,
    )
    kinds = [type(layer) for layer in growing_cache(config).layers]
    assert kinds[0] is GrowingLayer and kinds[1] not in (GrowingLayer, DynamicLayer)
