"""The words of `openr1 run` and `openr1 check`: which recipe, with which settings, and what of it to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from openr1.errors import UsageError, UserError, did_you_mean

if TYPE_CHECKING:
    from openr1.config.recipe import Recipe
    from openr1.store import Shard

OWN_WORDS = ("recipe", "run", "stages", "kinds", "rerun", "shard")


def split_words(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The verb's own words, taken out before Hydra composes, and the settings that remain.

    Raises UsageError for a word of its own that is there twice.
    """
    own: dict[str, str] = {}
    settings: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key in OWN_WORDS and equals:
            if key in own:
                raise UsageError(f"{key}= is there twice ({own[key]} and {value}); give it once")
            own[key] = value
        else:
            settings.append(word)
    return own, settings


def name_list(text: str | None) -> list[str]:
    """`[a,b]` or `a,b` as a list of names.

    >>> name_list("[a, b]")
    ['a', 'b']
    """
    return [n.strip() for n in (text or "").strip().removeprefix("[").removesuffix("]").split(",") if n.strip()]


def compose(words: Sequence[str]) -> tuple[Recipe, dict[str, str]]:
    """The validated recipe that the words ask for, and the verb's own words."""
    from openr1.config import compose_recipe, validate
    from openr1.launch import evaluation

    own, settings = split_words(words)
    if "recipe" not in own and (bare := [w for w in words if "=" not in w]):
        _refuse_bare(bare[0])
    evaluates = own.get("recipe") == evaluation.RECIPE
    tree = compose_recipe(own.get("recipe", ""), evaluation.settings_of(settings) if evaluates else settings)
    tree["run"] = own["run"] if "run" in own else tree.get("run") or own["recipe"]
    recipe = validate(tree)
    if evaluates and "run" not in own:
        recipe = recipe.model_copy(update={"run": evaluation.default_run(recipe)})
    return recipe, own


def _refuse_bare(word: str) -> None:
    """`openr1 check tiny`: a recipe without recipe= before it."""
    from openr1.config.compose import recipe_names

    near = did_you_mean(word.removesuffix(".yaml").rpartition("/")[2], recipe_names(), most=1)
    if near.startswith("did you mean"):
        raise UsageError(f"{word!r} is no setting; did you mean recipe={near.removeprefix('did you mean ')}")


def asked_stages(recipe: Recipe, own: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The names of `stages=[…]`, or of all stages of `kinds=[…]` with those that they read from, and of `rerun=[…]`.

    Raises UserError for lists that are empty and for unknown names.
    """
    from openr1.config.graph import needed
    from openr1.launch.plan import name_problems

    only, kinds, rerun = (name_list(own.get(key)) for key in ("stages", "kinds", "rerun"))
    problems = [
        f"{key}=[]: names no {what}; name one, or leave {key}= out"
        for key, names, what in (
            ("stages", only, "stage"),
            ("kinds", kinds, "kind of stage"),
            ("rerun", rerun, "stage"),
        )
        if key in own and not names
    ]
    if only and kinds:
        problems.append("stages=[…] and kinds=[…] both say what to run; keep one")
    there = {s.kind for s in recipe.stages.values()}
    problems += [
        f"kinds=[{kind}]: {recipe.recipe} has no such stage; {did_you_mean(kind, there)}"
        for kind in kinds
        if kind not in there
    ]
    if kinds and not problems:
        only = needed(recipe.stages, [name for name, s in recipe.stages.items() if s.kind in kinds])
    problems += name_problems(recipe, only, rerun)
    if problems:
        raise UserError(*problems)
    return only, rerun


def asked_shard(recipe: Recipe, own: Mapping[str, str], only: Sequence[str], rerun: Sequence[str]) -> Shard | None:
    """The shard of `shard=i/N`; raises UserError where it does not go with the other words."""
    if "shard" not in own:
        return None
    from openr1.launch.shard_plan import word_problems
    from openr1.store import Shard

    shard = Shard.parse(own["shard"])
    if problems := word_problems(recipe, only, rerun, shard):
        raise UserError(*problems)
    return shard
