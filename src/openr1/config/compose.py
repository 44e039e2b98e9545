"""Hydra composition of a recipe and the user's overrides into one plain tree.

`key=value` may name any key that the settings know, whether or not a file sets it; validation says which keys are
wrong. `group=choice` (engine=…, cluster=…) picks a file of the Hydra tree. Recipes are looked for in ./recipes first,
so that a project of its own needs no fork.

Hydra composes the files and the groups; keys are set afterwards (`config.overrides`), so that `stages.x.task.digits=…`
reaches one stage even where its `task` is a reference to a block that others use too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from openr1.config.overrides import apply_edits, first_line, parse_edits
from openr1.errors import UsageError, UserError, did_you_mean
from openr1.paths import data_dir

# what Hydra and the YAML reader let through for a file or a word that makes no sense, beside their own exceptions
COMPOSE_ERRORS = (ValueError, TypeError, AttributeError, AssertionError, RecursionError, yaml.YAMLError)
BLOCK_OF = {"algorithm": "train"}  # groups whose block in a stage has another name
TOP_LEVEL_BLOCKS = ("data", "model", "engine", "parallel")


def recipe_roots() -> list[Path]:
    """Folders that hold Hydra groups: ./recipes of the working directory, then those that ship with openr1."""
    own, shipped = Path("recipes").resolve(), data_dir("recipes").resolve()
    groups = [p.name for p in shipped.iterdir() if p.is_dir()]
    return [own, shipped] if own != shipped and any((own / name).is_dir() for name in groups) else [shipped]


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
    choices = [_choice(o) for o in overrides if _is_choice(o)]
    edits = parse_edits([o for o in overrides if not _is_choice(o)])
    config = _compose(name, choices)
    raw = str(_container(config, resolve=False).get("stages", {}))
    apply_edits(config, edits)
    raw += str(_container(config, resolve=False).get("stages", {}))
    tree = _container(config, resolve=True)
    tree["recipe"] = name
    _refuse_unused_blocks(raw, overrides)
    for block in TOP_LEVEL_BLOCKS:
        tree.pop(block, None)
    return tree


def _refuse_unplaced(name: str) -> None:
    """A recipe file, or one that it builds on, that does not say that its keys are the recipe's own."""
    todo, seen = [name], set()
    while todo:
        seen.add(recipe := todo.pop())
        path = next(p for root in recipe_roots() if (p := root / "recipe" / f"{recipe}.yaml").is_file())
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as e:
            raise UserError(f"{path}: is not UTF-8 ({e.reason} at byte {e.start}); save it as UTF-8") from e
        head = takewhile(lambda line: not line.strip() or line.startswith("#"), text.splitlines())
        if not any(re.match(r"#\s*@package\s+_global_\s*$", line) for line in head):
            raise UserError(f"{path}: does not begin with `# @package _global_`; make that its first line")
        try:
            tree = yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise UserError(f"{path}: not readable as YAML ({first_line(e)})") from e
        defaults = tree.get("defaults") if isinstance(tree, dict) else None
        if not isinstance(defaults, list | None):
            raise UserError(f"{path}: `defaults` is {defaults!r}; make it a list, such as [tiny, _self_]")
        names = [d for d in defaults or [] if isinstance(d, str)]
        if recipe in names:
            raise UserError(f"{path}: `defaults` names the recipe itself; name the one that it builds on")
        todo += [d for d in names if d in recipe_names() and d not in seen]


def _compose(name: str, overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    roots = recipe_roots()
    search = [f"hydra.searchpath=[{','.join(f'file://{root}' for root in roots[:-1])}]"] if len(roots) > 1 else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(roots[-1]), version_base="1.3"):
            return compose(config_name="config", overrides=[f"recipe={name}", *search, *overrides])
    except (HydraException, *COMPOSE_ERRORS) as e:
        raise UserError(_hydra_line(name, e)) from e
    except OmegaConfBaseException as e:
        raise UserError(f"recipe={name}: {first_line(e)}") from e


def _container(config: Any, *, resolve: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=resolve, throw_on_missing=False)  # type: ignore[return-value]
    except (OmegaConfBaseException, RecursionError) as e:
        raise UserError(f"the recipe does not resolve: {first_line(e)}") from e


def _is_choice(override: str) -> bool:
    """Whether a word picks a file of a group, which is Hydra's to do; any other sets or takes out a key."""
    key = override.lstrip("+~").partition("=")[0]
    return "@" in key or key in group_names()


def _choice(override: str) -> str:
    """The word, if it names a choice."""
    key, equals, value = override.partition("=")
    if not equals and not override.startswith("~"):
        raise UsageError(f"{override!r} is no setting; write key=value")
    if re.fullmatch(r"[-+\d.]+|null|true|false|\{.*", value, re.IGNORECASE):
        raise UserError(f"{override}: {value} is no choice; {_near(key.lstrip('+~').partition('@')[0], value)}")
    return override


def _near(group: str, choice: str) -> str:
    """A hint of the choices that a group has."""
    return did_you_mean(choice, {p.stem for root in recipe_roots() for p in (root / group).glob("*.yaml")})


def _refuse_unused_blocks(text: str, overrides: Sequence[str]) -> None:
    """A block that the user set and no stage (`text`, unresolved) refers to would change nothing: say so."""
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
        return f"recipe={name}: {group}={choice} does not exist; {_near(group, choice)}"
    meant = r"(?:\.\s+Did you mean to override \1@([\w.-]+)\?)?"
    placed = re.search(r"Could not override '([\w/]+)@([\w.-]+)'" + meant, text)
    if placed:
        group, place, near = placed.groups()
        hint = f"did you mean {group}@{near}?" if near else "see its defaults list"
        return f"recipe={name}: no {group} is chosen at {place}; {hint}"
    twice = re.search(r"Multiple values for ([\w/]+@[\w.-]*\w)", text)
    if twice:
        return f"recipe={name}: {twice.group(1)} is chosen already; leave the + out (override /… in a defaults list)"
    unplaced = re.search(r"Could not override '([\w/]+)'", text)
    if unplaced:
        group = unplaced.group(1)
        key = BLOCK_OF.get(group, group)
        return f"recipe={name}: {group}=… has no place in this recipe; say {group}@stages.<stage>.{key}=…"
    return f"recipe={name}: {first_line(error)}"
