"""All that can be wrong with a composed reward, told before a model is loaded and without running it."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from openr1.errors import UserError, did_you_mean
from openr1.rewards.registry import get_reward
from openr1.rewards.settings import RewardSettings
from openr1.rewards.types import RewardFunction


def problems(settings: RewardSettings) -> list[str]:
    """Everything wrong with the settings, one line each, without running a reward."""
    if not settings.parts:
        return ["reward: no parts; name at least one, e.g. parts: {accuracy: {weight: 1.0}}"]
    found = []
    for label, part in settings.parts.items():
        if not math.isfinite(part.weight):
            found.append(f"reward part {label!r}: the weight is {part.weight}; it must be a finite number")
        name = part.function or label
        lines = parameter_problems(name, part.params, scorer=part.scorer is not None)
        found += [f"reward part {label!r}: {line}" for line in lines]
    if not found and all(part.weight == 0 for part in settings.parts.values()):
        found.append("reward: every weight is 0, so nothing can be learned")
    return found


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
