"""The verb about this machine: doctor."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from openr1.cli.words import AddVerb, Refused, add_settings
from openr1.launch.words import compose


def add_verbs(verb: AddVerb) -> None:
    add_settings(
        verb("doctor", cmd_doctor, "say what this machine can do, and with recipe= whether its cluster can run it")
    )


def cmd_doctor(args: argparse.Namespace) -> Any:
    from openr1.launch.doctor import advice, against_site, examine

    recipe = compose(args.words)[0] if args.words else None
    found = examine()
    if recipe is not None:
        found["recipe"] = {"recipe": recipe.recipe, **against_site(recipe)}
    if not args.json:
        for subject, facts in found.items():
            sys.stdout.write(f"{subject}\n")
            for key, value in facts.items():
                sys.stdout.write(f"  {key:<16} {', '.join(map(str, value)) if isinstance(value, list) else value}\n")
        for line in advice(found):
            sys.stdout.write(f"- {line}\n")
    if recipe is not None and found["recipe"]["problems"]:
        raise Refused(found, found["recipe"]["problems"])
    return found
