"""Words such as `stages.grpo.train.learning_rate=1e-4`, in Hydra's grammar, applied to a composed tree.

A value takes the place of what was there, a map too; a key that is not there is made (validation says which keys are
wrong). A path through a reference such as `engine: ${engine}` first gives that place a copy of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from openr1.errors import UsageError, UserError, did_you_mean


@dataclass(frozen=True)
class Edit:
    """One key to set, or with `delete` to take out (where a value is given, only if it has that value)."""

    word: str
    path: tuple[str, ...]
    value: Any
    delete: bool = False


def parse_edits(words: Sequence[str]) -> list[Edit]:
    """The edits of the words, those of blocks before those of stages, which may copy a block.

    Raises UsageError for a word that is no setting, UserError for one that Hydra's grammar cannot read.
    """
    edits = [_parse(word) for word in words]
    return sorted(edits, key=lambda e: e.path[0] == "stages")


def _parse(word: str) -> Edit:
    delete = word.startswith("~")
    key, equals, value = word.lstrip("+~").partition("=")
    if not key or not (equals or delete):
        raise UsageError(f"{word!r} is no setting; write key=value")
    path = tuple(re.sub(r"\[([^\]]*)\]", r".\1", key).split("."))
    if path[0].partition("/")[0] == "hydra":
        raise UserError(f"{word}: settings of Hydra itself have no effect here; leave it out")
    if path[0] == "recipe":
        raise UserError(f"{word}: a recipe is named, recipe=NAME, and has no keys of that name")
    if not all(re.fullmatch(r"[^\s\[\]{}$=:,'\"]+", part) for part in path):
        raise UserError(f"{word}: {key!r} is no key; write names with dots between them")
    return Edit(word, path, _value(word, value) if equals else None, delete)


def _value(word: str, text: str) -> Any:
    """`text` in Hydra's grammar; what the grammar cannot read (a path with odd characters) is taken as it stands."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"++key={text}")
    except HydraException:
        return text
    if override.is_sweep_override():
        raise UserError(f"{word}: is several values; give one, or put a list in brackets")
    return override.value()


def apply_edits(config: Any, edits: Sequence[Edit]) -> None:
    """Apply the edits in their order to an OmegaConf tree; raises UserError with one line for one that cannot be."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.set_struct(config, False)
    for edit in edits:
        try:
            edit = replace(edit, path=_indexed(config, edit))
            parent = _own_parent(config, edit)
            if edit.delete:
                _delete(parent, edit)
            else:
                OmegaConf.update(config, ".".join(edit.path), edit.value, merge=False, force_add=True)
        except (OmegaConfBaseException, ValueError, TypeError, LookupError, AssertionError, RecursionError) as e:
            raise UserError(f"{edit.word}: {first_line(e)}") from e


def _indexed(config: Any, edit: Edit) -> tuple[str, ...]:
    """The path, with the number of an item of a list of steps where its name stands: `steps.select.per_prompt`."""
    from omegaconf import OmegaConf

    node: Any = config
    path: list[str] = []
    for part in edit.path:
        if OmegaConf.is_list(node) and not part.isdigit():
            names = [str(item.get("step")) for item in node if OmegaConf.is_dict(item) and "step" in item]
            if part not in names:
                raise UserError(
                    f"{edit.word}: {'.'.join(path)} is a list and has no {part!r}; {_of_list(part, names)}"
                )
            part = str(names.index(part))
        path.append(part)
        key: Any = int(part) if OmegaConf.is_list(node) and part.isdigit() else part
        there = OmegaConf.is_config(node) and not OmegaConf.is_missing(node, key) and key in _keys(node)
        node = node[key] if there else None
    return tuple(path)


def _keys(node: Any) -> Any:
    from omegaconf import OmegaConf

    return range(len(node)) if OmegaConf.is_list(node) else node.keys()


def _of_list(part: str, names: list[str]) -> str:
    return did_you_mean(part, names) if names else "say which by its number, from 0"


def _own_parent(config: Any, edit: Edit) -> Any:
    """The node that holds the last part of the path, references on the way replaced by copies; None: not there."""
    from omegaconf import OmegaConf

    node = config
    for part in edit.path[:-1]:
        key: Any = int(part) if OmegaConf.is_list(node) else part
        if OmegaConf.is_interpolation(node, key):
            target = node[key]
            node[key] = OmegaConf.to_container(target, resolve=True) if OmegaConf.is_config(target) else target
        if OmegaConf.is_missing(node, key) or (OmegaConf.is_dict(node) and key not in node):
            return None
        node = node[key]
        if not OmegaConf.is_config(node):
            return None
    return node


def _delete(parent: Any, edit: Edit) -> None:
    from omegaconf import OmegaConf

    last: Any = int(edit.path[-1]) if OmegaConf.is_list(parent) else edit.path[-1]
    if parent is None or (OmegaConf.is_dict(parent) and last not in list(parent.keys())):
        raise UserError(f"{edit.word}: there is no such key to take out")
    if "=" in edit.word and parent[last] != edit.value:
        raise UserError(f"{edit.word}: its value is {parent[last]}; write ~{'.'.join(edit.path)}")
    del parent[last]


def first_line(error: Exception) -> str:
    """What an exception says, as one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
