"""Reward functions by name or by `module:function`."""

from __future__ import annotations

import inspect
from typing import Any

from openr1.errors import UserError, did_you_mean
from openr1.rewards.types import RewardFunction
from openr1.verify.base import import_path

_BUILTIN = {
    "accuracy": "openr1.rewards.accuracy:accuracy",
    "reasoning_accuracy": "openr1.rewards.accuracy:reasoning_accuracy",
    "cosine": "openr1.rewards.accuracy:cosine",
    "length": "openr1.rewards.accuracy:length",
    "soft_overlong": "openr1.rewards.accuracy:soft_overlong",
    "format": "openr1.rewards.form:format",
    "format_native": "openr1.rewards.form:format_native",
    "tag_count": "openr1.rewards.form:tag_count",
    "reasoning_steps": "openr1.rewards.form:reasoning_steps",
    "repetition": "openr1.rewards.language:repetition",
    "language_consistency": "openr1.rewards.language:language_consistency",
}


def register_reward(name: str, path: str) -> None:
    """Make `module:function` known by a name (the code reward of another room)."""
    _BUILTIN[name] = path


def reward_names() -> list[str]:
    return sorted(_BUILTIN)


def get_reward(name: str) -> RewardFunction:
    """The function of that name or import path; UserError with near names otherwise."""
    if name not in _BUILTIN and ":" not in name:
        raise UserError(f"unknown reward {name!r}: {did_you_mean(name, _BUILTIN)}")
    function = import_path(_BUILTIN.get(name, name), "reward")
    if not callable(function):
        raise UserError(f"reward {name!r} is a {type(function).__name__}, not a function")
    return function


def parameter_problems(name: str, params: dict[str, Any]) -> list[str]:
    """What is wrong with `params` for this reward: unknown names, missing ones. Values are the function's own."""
    try:
        signature = inspect.signature(get_reward(name))
    except UserError as error:
        return error.problems
    accepted = list(signature.parameters.values())[1:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted)
    known = {p.name: p for p in accepted if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    found = [
        f"reward {name!r} has no parameter {key!r}: {did_you_mean(key, known)}"
        for key in params
        if key not in known and not open_ended
    ]
    missing = [key for key, p in known.items() if p.default is p.empty and key not in params]
    return found + [f"reward {name!r} needs the parameter {key!r}" for key in missing]
