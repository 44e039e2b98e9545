"""The table of TRL's argument names, types and defaults, checked in so that a recipe is validated without torch.

`python -m openr1.train.fields` writes it from the installed TRL and transformers; a test keeps it equal to them.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import typing
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["sft", "grpo"]
TABLE = Path(__file__).with_name("trl_fields.json")


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """The checked-in table: {"trl": version, "transformers": version, "sft": {name: {type, default}}, "grpo": …}."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def fields(kind: Kind) -> dict[str, dict[str, Any]]:
    """The arguments of SFTConfig or GRPOConfig: name -> {"type": …, "default": …}."""
    return table()[kind]


def default(kind: Kind, name: str) -> Any:
    """TRL's default of an argument; None also where the default is made when training starts."""
    return fields(kind)[name]["default"]


def installed() -> dict[str, Any]:
    """The table as the installed TRL and transformers define it; imports both."""
    from importlib.metadata import version

    from trl import GRPOConfig, SFTConfig

    return {
        "trl": version("trl"),
        "transformers": version("transformers"),
        "sft": _describe(SFTConfig),
        "grpo": _describe(GRPOConfig),
    }


def _describe(config: type) -> dict[str, dict[str, Any]]:
    hints = typing.get_type_hints(config)
    out: dict[str, dict[str, Any]] = {}
    for f in sorted(dataclasses.fields(config), key=lambda f: f.name):
        if f.init:
            out[f.name] = {"type": _type_name(hints[f.name]), "default": _plain(f)} | _choices(hints[f.name])
    return out


def _choices(hint: Any) -> dict[str, list[str]]:
    """The values of an enum among the types of a field."""
    enums = [a for a in (hint, *typing.get_args(hint)) if isinstance(a, type) and issubclass(a, enum.Enum)]
    return {"choices": sorted(str(member.value) for e in enums for member in e)} if enums else {}


def _type_name(hint: Any) -> str:
    """A type as text, without module names: `float`, `dict | str | None`, `list[str] | None`."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    if typing.get_origin(hint) in (typing.Union, getattr(typing, "UnionType", None)) or "|" in str(hint):
        return " | ".join(_type_name(a) for a in typing.get_args(hint)) or str(hint)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(hint))


def _plain(field: dataclasses.Field[Any]) -> Any:
    """A default as a JSON value."""
    value = field.default
    if value is dataclasses.MISSING:
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
    value = getattr(value, "value", value)  # an enum's value
    return value if isinstance(value, (bool, int, float, str, list, dict, type(None))) else str(value)


def write() -> None:
    """Write the table of the installed versions beside this module."""
    TABLE.write_text(json.dumps(installed(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
