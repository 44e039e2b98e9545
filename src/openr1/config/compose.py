"""Hydra composition of a recipe and the user's overrides into one plain tree.

`key=value` may name any key that the settings know, whether or not a file sets it; validation says which keys are
wrong. `group=choice` (engine=…, cluster=…) picks a file of the Hydra tree. Recipes are looked for in ./recipes first,
so that a project of its own needs no fork.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from openr1.errors import UsageError, UserError, did_you_mean
from openr1.paths import data_dir

TOP_LEVEL_BLOCKS = ("data", "model", "engine")


def recipe_roots() -> list[Path]:
    """Folders that hold Hydra groups: ./recipes of the working directory, then those that ship with openr1."""
    own, shipped = Path("recipes").resolve(), data_dir("recipes").resolve()
    return [own, shipped] if own != shipped and (own / "recipe").is_dir() else [shipped]


def recipe_names() -> list[str]:
    """Every recipe that can be run from here."""
    return sorted({p.stem for root in recipe_roots() for p in (root / "recipe").glob("*.yaml")})


def group_names() -> set[str]:
    """Config groups: the folders of the Hydra tree."""
    return {p.name for root in recipe_roots() for p in root.iterdir() if p.is_dir()}


def compose_recipe(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The composed tree of a recipe, interpolations resolved, as plain dicts and lists.

    Raises UserError with one line for an unknown recipe or group choice, a malformed override or an interpolation that
    leads nowhere; UsageError where no recipe is named.
    """
    if not name:
        raise UsageError(f"no recipe named; say recipe=NAME ({', '.join(recipe_names())})")
    if name not in recipe_names():
        raise UserError(f"recipe={name}: no such recipe; {did_you_mean(name, recipe_names())}")
    _refuse_unplaced(name)
    config = _compose(name, [_prepare(o) for o in overrides])
    raw = _container(config, resolve=False)
    tree = _container(config, resolve=True)
    tree["recipe"] = name
    _refuse_unused_blocks(raw, overrides)
    for block in TOP_LEVEL_BLOCKS:
        tree.pop(block, None)
    return tree


def _refuse_unplaced(name: str) -> None:
    """A recipe file, or one that it builds on, that does not say that its keys are the recipe's own."""
    import yaml

    todo, seen = [name], set()
    while todo:
        seen.add(recipe := todo.pop())
        path = next(p for root in recipe_roots() if (p := root / "recipe" / f"{recipe}.yaml").is_file())
        text = path.read_text(encoding="utf-8", errors="replace")
        head = takewhile(lambda line: not line.strip() or line.startswith("#"), text.splitlines())
        if not any(re.match(r"#\s*@package\s+_global_\s*$", line) for line in head):
            raise UserError(f"{path}: does not begin with `# @package _global_`; make that its first line")
        try:
            tree = yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise UserError(f"{path}: not readable as YAML ({_first_line(e)})") from e
        defaults = tree.get("defaults") if isinstance(tree, dict) else None
        names = [d for d in defaults or [] if isinstance(d, str)] if isinstance(defaults, list) else []
        todo += [d for d in names if d in recipe_names() and d not in seen]


def _compose(name: str, overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    roots = recipe_roots()
    search = [f"hydra.searchpath=[{','.join(f'file://{root}' for root in roots[:-1])}]"] if len(roots) > 1 else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(roots[-1]), version_base="1.3"):
            return compose(config_name="config", overrides=[f"recipe={name}", *search, *overrides])
    except HydraException as e:
        raise UserError(_hydra_line(name, e)) from e


def _container(config: Any, *, resolve: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=resolve, throw_on_missing=False)  # type: ignore[return-value]
    except OmegaConfBaseException as e:
        raise UserError(f"the recipe does not resolve: {_first_line(e)}") from e


def _prepare(override: str) -> str:
    """A user's word in Hydra's grammar: groups stay, any other key is set whether or not a file has it."""
    if override.startswith(("+", "~")):
        return override
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UsageError(f"{override!r} is no setting; write key=value")
    if "@" in key or key in group_names():
        return override
    return f"++{key}={_quoted(value)}"


def _quoted(value: str) -> str:
    """`value` as Hydra's grammar takes it; what the grammar cannot read (a path with odd characters) is quoted."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(f"++key={value}")
        return value
    except HydraException:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"


def _refuse_unused_blocks(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """A block that the user set and no stage refers to would change nothing: say so."""
    text = str(raw.get("stages", {}))
    asked = {
        re.split(r"[.=]", o.lstrip("+"), maxsplit=1)[0] for o in overrides
    }  # model@stages.… places a block itself
    dead = [b for b in TOP_LEVEL_BLOCKS if b in asked and f"${{{b}" not in text]
    if dead:
        raise UserError(*(f"{b}=…: no stage of this recipe uses `{b}`; set stages.<stage>.<key>" for b in dead))


def _hydra_line(name: str, error: Exception) -> str:
    """One line of what Hydra found, with near names where a choice does not exist."""
    text = str(error)
    missing = re.search(r"Could not find '([\w-]+)/([^']+)'", text)
    if missing:
        group, choice = missing.groups()
        known = {p.stem for root in recipe_roots() for p in (root / group).glob("*.yaml")}
        return f"recipe={name}: {group}={choice} does not exist; {did_you_mean(choice, known)}"
    unplaced = re.search(r"Could not override '([\w/]+)'", text)
    if unplaced:
        group = unplaced.group(1)
        return f"recipe={name}: {group}=… has no place in this recipe; say {group}@stages.<stage>.{group}=…"
    return f"recipe={name}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
