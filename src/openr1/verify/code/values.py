"""Values that cross the border of the sandbox as JSON text: Python's own types, told apart, and nothing else.

What comes back is built anew here, so no object of a candidate's making, with an `__eq__` of its own, is compared.
"""

from __future__ import annotations

import json
from typing import Any

MOST_DEPTH = 200

# runs inside, beside the candidate: `_encode` turns a result into the JSON that `decode` reads
ENCODER = """
def _encode(value, depth=0, *, _type=type, _repr=float.__repr__, _complex=complex, _str=str, _hex=hex, _LARGE=1 << 64):
    kind = _type(value)
    if depth > 200:
        raise TypeError("the result is nested too deeply")
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_LARGE < value < _LARGE else {"int": _hex(value)}
    if kind is float:
        return {"float": _repr(value)}
    if kind is _complex:
        return {"complex": [_repr(value.real), _repr(value.imag)]}
    if kind is bytes or kind is bytearray:
        return {kind.__name__: value.hex()}
    if kind is list:
        return [_encode(item, depth + 1) for item in value]
    if kind is tuple or kind is set or kind is frozenset:
        return {kind.__name__: [_encode(item, depth + 1) for item in value]}
    if kind is dict or kind in _DICTS:
        return {"dict": [[_encode(k, depth + 1), _encode(v, depth + 1)] for k, v in value.items()]}
    if kind is _deque or kind is range:
        return {kind.__name__: [_encode(item, depth + 1) for item in value]}
    raise TypeError("the result is a " + _str(kind.__name__) + ", which is no plain value")
"""
MANY = 1000
_SEQUENCES = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": list, "range": list}


def decode(text: bytes) -> Any:
    """The value that `_encode` wrote; ValueError for anything else."""
    try:
        return _value(json.loads(text), 0)
    except (RecursionError, TypeError, AttributeError) as error:
        raise ValueError(f"not a value: {error}") from None


def _value(item: Any, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(item, list):
        return [_value(x, depth + 1) for x in item]
    if not isinstance(item, dict):
        return item
    ((kind, inner),) = item.items()
    if kind == "float":
        return float(inner)
    if kind == "int":
        return int(inner, 16)  # in digits Python refuses the longest
    if kind == "complex":
        return complex(float(inner[0]), float(inner[1]))
    if kind in ("bytes", "bytearray"):
        return bytes.fromhex(inner)
    if kind == "dict":
        keys = _spread([_value(k, depth + 1) for k, _ in inner])
        return dict(zip(keys, (_value(v, depth + 1) for _, v in inner), strict=True))
    if kind in _SEQUENCES:
        items = [_value(x, depth + 1) for x in inner]
        return _SEQUENCES[kind](_spread(items) if kind in ("set", "frozenset") else items)
    raise ValueError(f"unknown kind {kind!r}")


def _spread(keys: list[Any]) -> list[Any]:
    """Keys of a table, refused where they were chosen to have the same hash, which makes a table take for ever."""
    if len(keys) > MANY and len(set(map(hash, keys))) < len(keys) // 2:
        raise ValueError("keys of the same hash")
    return keys


def as_json(value: Any) -> Any:
    """A value as JSON would hold it: tuples become lists, keys texts. ValueError for what JSON has not."""
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {_key(k): as_json(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"JSON has no {type(value).__name__}")


def _key(key: Any) -> str:
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    if isinstance(key, str):
        return key
    raise ValueError(f"JSON has no keys of type {type(key).__name__}")
