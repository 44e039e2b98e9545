"""A key-value cache that grows by doubling. transformers' own concatenates, which copies the whole cache for every
token; without that, a tiny model on a CPU takes an eighth less time (more where memory is contended)."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class GrowingLayer(DynamicLayer):
    """Keys and values as views of buffers with room to spare, (rows, heads, room, head_dim)."""

    FIRST_ROOM = 64

    def __init__(self, most: int | None = None, **kwargs: Any) -> None:
        """`most`: tokens beyond which no room is made as long as they suffice."""
        super().__init__(**kwargs)
        self._most = most
        self._buffers: list[torch.Tensor | None] = [None, None]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states behind the old ones; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        self._buffers = [
            _with_room(buffer, old, new, length, end, self._room(length, end))
            for buffer, old, new in zip(
                self._buffers, (self.keys, self.values), (key_states, value_states), strict=True
            )
        ]
        keys, values = (buffer[:, :, :end] for buffer in self._buffers if buffer is not None)
        self.keys, self.values = keys, values
        return keys, values

    def _room(self, length: int, end: int) -> int:
        """How many tokens a new buffer holds."""
        wanted = max(self.FIRST_ROOM, 2 * length)
        return max(end, wanted if self._most is None else min(wanted, self._most))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows of `indices`. They move to the front of the buffers, which keep their room."""
        if not self.get_seq_length():
            return
        self.keys, self.values = (
            _to_front(buffer, old, indices)
            for buffer, old in zip(self._buffers, (self.keys, self.values), strict=True)
        )
        self._buffers = [None if b is None else b[: len(indices)] for b in self._buffers]


def _to_front(buffer: torch.Tensor | None, old: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    """The `rows` of `old`, in the front of its buffer where it is a view of it."""
    assert old is not None
    kept = old[rows]
    if buffer is None or old.data_ptr() != buffer.data_ptr() or len(rows) > len(buffer):
        return kept
    front = buffer[: len(rows), :, : old.shape[-2]]
    front.copy_(kept)
    return front


def _with_room(
    buffer: torch.Tensor | None, old: torch.Tensor | None, new: torch.Tensor, length: int, end: int, room: int
) -> torch.Tensor:
    """The buffer with `new` written at [length, end). `old` is copied where it no longer is a view of the buffer:
    another layer operation (selecting rows, cropping, reordering) has replaced it."""
    mine = buffer is not None and old is not None and (length == 0 or old.data_ptr() == buffer.data_ptr())
    if buffer is None or not mine or buffer.shape[0] != new.shape[0] or end > buffer.shape[-2]:
        grown = new.new_empty(new.shape[0], new.shape[1], room, new.shape[-1])
        if length and old is not None:
            grown[:, :, :length] = old
        buffer = grown
    buffer[:, :, length:end] = new
    return buffer


def growing_cache(config: Any, most: int | None = None) -> DynamicCache:
    """An empty cache for a model of this config and up to `most` tokens; layers of other kinds (sliding windows) stay
    what they are."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer(most) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
