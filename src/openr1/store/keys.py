"""The keys of a store in memory: one entry a prompt, its samples as the bits of one integer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

Key = tuple[str, int]


class Keys(Set[Key]):
    """A set of (prompt id, sample index); a prompt costs about 150 bytes, however many samples it has.

    >>> Keys([("a", 0), ("a", 2)]) == {("a", 0), ("a", 2)}
    True
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._samples: dict[str, int] = {}
        self._count = 0
        for key in keys:
            self.add(key)

    def add(self, key: Key) -> None:
        prompt, sample = key
        before = self._samples.get(prompt, 0)
        after = before | 1 << sample
        if after != before:
            self._samples[prompt] = after
            self._count += 1

    def samples(self, prompt_id: str) -> int:
        """How many samples of a prompt are in."""
        return self._samples.get(prompt_id, 0).bit_count()

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple) or len(key) != 2:
            return False
        return bool(self._samples.get(key[0], 0) >> key[1] & 1)

    def __iter__(self) -> Iterator[Key]:
        for prompt, samples in self._samples.items():
            for sample in range(samples.bit_length()):
                if samples >> sample & 1:
                    yield prompt, sample

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Keys({sorted(self)!r})"
