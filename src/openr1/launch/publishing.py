"""What can be told of a recipe's publish stages before anything runs: no GPU works for what cannot be sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from openr1.config.recipe import Recipe
from openr1.errors import OutsideError, UserError
from openr1.hub.settings import Publication
from openr1.log import logger
from openr1.stages.settings import PublishStage


def publications(recipe: Recipe, only: Collection[str] = ()) -> Iterator[tuple[str, Publication]]:
    """The publish stages that are on (with `only`, of these), and what each asks for."""
    for name, settings in recipe.stages.items():
        if isinstance(settings, PublishStage) and not settings.off(name) and (not only or name in only):
            refs = {n: ref.partition("/") for n, ref in settings.inputs.items()}
            holds = {n: recipe.stages[source].outputs()[output] for n, (source, _, output) in refs.items()}
            yield name, settings.publication(holds)


def publish_problems(recipe: Recipe, only: Collection[str] = ()) -> list[str]:
    """Why they cannot publish, as far as this machine knows; nobody is asked."""
    wanted = [name for name, _ in publications(recipe, only)]
    if not wanted:
        return []
    from openr1.hub.remote import unable

    site = recipe.cluster
    if not site.internet:
        why = f"nodes of {site.name} have no internet; take repo out, and publish by hand: openr1 publish {recipe.run}"
    elif not (why := unable() or ""):
        return []
    return [f"stages.{name}: {why}" for name in wanted]


def ask_hub(recipe: Recipe, only: Collection[str] = ()) -> None:
    """Raise UserError where the Hub refuses this token or the repository; that it does not answer is a warning."""
    from openr1.hub.upload import ask_first

    problems = publish_problems(recipe, only)
    for name, ask in publications(recipe, only) if not problems else ():
        try:
            ask_first(ask)
        except UserError as e:
            problems += [f"stages.{name}: {problem}" for problem in e.problems]
        except OutsideError as e:
            logger.warning("%s: not known yet whether %s can be written (%s)", name, ask.repo, e)
    if problems:
        raise UserError(*problems)
