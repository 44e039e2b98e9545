"""Reward functions by name or by `module:function`."""

from __future__ import annotations

from openr1.errors import UserError, did_you_mean
from openr1.rewards.settings import RewardSettings
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
    "code": "openr1.rewards.code:code",
    "binary_code": "openr1.rewards.code:binary_code",
    "code_format": "openr1.rewards.code:code_format",
    "codeforces": "openr1.rewards.code:codeforces",
    "ioi": "openr1.rewards.code:ioi",
    "repetition": "openr1.rewards.language:repetition",
    "language_consistency": "openr1.rewards.language:language_consistency",
    "helpful": "openr1.rewards.preference:helpful",
    "harmless": "openr1.rewards.preference:harmless",
}
_IN_SANDBOX = ("code", "binary_code", "codeforces", "ioi")


def verifiers_of(settings: RewardSettings) -> list[str]:
    """The verifiers that a reward asks by itself, whatever its prompts name."""
    names = {part.function or label for label, part in settings.parts.items()}
    return ["code"] if names & {*_IN_SANDBOX} else []


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
