"""Reward functions by name or by `module:function`."""

from __future__ import annotations

import inspect
import json
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

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


def parameter_problems(name: str, params: dict[str, Any], scorer: bool = False) -> list[str]:
    """What is wrong with `params` for this reward: unknown names, missing ones, values that its annotations refuse.

    `scorer`: whether one is configured; a function that has a parameter of that name is handed it.
    """
    try:
        function = get_reward(name)
    except UserError as error:
        return error.problems
    accepted = list(inspect.signature(function).parameters.values())[1:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted)
    known = {p.name: p for p in accepted if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    takes = known.pop("scorer", None) is not None
    found = []
    if takes and not scorer:
        found.append(
            f"reward {name!r} needs a scorer: {{kind: classifier, source: …}} or {{kind: judge, url: …, model: …}}"
        )
    if scorer and not takes and not open_ended:
        found.append(f"reward {name!r} asks nobody; leave its scorer out")
    found += [
        f"reward {name!r} has no parameter {key!r}: {did_you_mean(key, known)}"
        for key in params
        if key not in known and not open_ended
    ]
    missing = [key for key, p in known.items() if p.default is p.empty and key not in params]
    found += [f"reward {name!r} needs the parameter {key!r}" for key in missing]
    hints = _hints(function)
    values = [(key, _value_problem(value, hints[key])) for key, value in params.items() if key in known.keys() & hints]
    return found + [f"reward {name!r}, parameter {key!r}: {problem}" for key, problem in values if problem]


def _hints(function: RewardFunction) -> dict[str, Any]:
    """The resolved annotations; {} where they name what only a type checker imports."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def _value_problem(value: Any, hint: Any) -> str | None:
    """Why a value of a recipe does not fit an annotation; None where it does or where pydantic knows no such type."""
    choices = [c for member in (hint, *get_args(hint)) if get_origin(member) is Literal for c in get_args(member)]
    if choices and isinstance(value, str) and str not in get_args(hint):
        return None if value in choices else f"{value!r} is not one of its values; {did_you_mean(value, choices)}"
    try:
        TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return f"{value!r}: {error.errors()[0]['msg']}"
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return None
    return None
