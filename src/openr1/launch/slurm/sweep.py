"""Sweeps: `key=a,b` on the line of `openr1 submit` is a run for each value, and for each combination of several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from openr1.errors import UserError

LONGEST_VALUE = 40


def sweep_points(words: Sequence[str], run: str) -> list[tuple[str, list[str]]]:
    """(run name, words) of every point; one point, with the run's own name, where nothing is swept.

    >>> sweep_points(["seed=0,1"], "tiny")
    [('tiny-seed-0', ['seed=0']), ('tiny-seed-1', ['seed=1'])]
    """
    choices = [_choices(word) for word in words]
    swept = [key for key, values in choices if len(values) > 1]
    points = []
    for values in product(*(values for _, values in choices)):
        named = {key: value for (key, _), value in zip(choices, values, strict=True) if key in swept}
        at = [f"{key}={value}" if value is not None else key for (key, _), value in zip(choices, values, strict=True)]
        points.append(("-".join([run, *(f"{_short(key, swept)}-{_name(v)}" for key, v in named.items())]), at))
    names = [name for name, _ in points]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{', '.join(swept)}: two points of the sweep would be called {twice}; submit them one by one")
    return points


def _choices(word: str) -> tuple[str, list[str | None]]:
    """A word's key and the values that it gives it; [None] where it is no setting of several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    if not equals or key.startswith("~"):
        return word, [None]
    try:
        override = OverridesParser.create().parse_override(f"++key={value}")
    except HydraException:
        return word, [None]
    if not override.is_sweep_override():
        return word, [None]
    if override.value_type not in (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP, ValueType.RANGE_SWEEP):
        raise UserError(f"{word}: only lists of values can be swept; write {key}=a,b,c")
    return key, [str(v) for v in override.sweep_string_iterator()]


def _short(key: str, swept: Sequence[str]) -> str:
    """The last part of a key, or all of it where another swept key ends so too."""
    last = key.lstrip("+").rpartition(".")[2]
    alike = [k for k in swept if k.lstrip("+").rpartition(".")[2] == last]
    return last if len(alike) == 1 else re.sub(r"[^\w.-]+", "-", key.lstrip("+"))


def _name(value: str | None) -> str:
    return re.sub(r"[^\w.-]+", "-", str(value)).strip("-")[:LONGEST_VALUE] or "empty"
