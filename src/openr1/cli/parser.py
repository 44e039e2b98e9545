"""The parser of all verbs. Each verb is declared beside the function that carries it out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from openr1 import __version__
from openr1.cli import jobs, machine, recipes, results, sharing

EPILOG = """settings are written key=value, e.g.
  openr1 run recipe=tiny                                   run a recipe here; the same command resumes it
  openr1 run recipe=tiny run=hot stages.grpo.train.learning_rate=1e-4
  openr1 run recipe=tiny stages=[prompts,sft]              only these stages
  openr1 run recipe=tiny kinds=[generate]                  all stages of a kind and what they read from
  openr1 run recipe=tiny rerun=[grpo]                      again, the old output is kept aside
  openr1 run recipe=tiny stages=[generate] shard=3/16      one of 16 tasks that fill one store
RUN is a name under runs/ (or OPENR1_RUNS), or a path where it has a slash."""


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The words of a command line; settings may stand before and after options."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    settings = hasattr(args, "words") and not any(word.startswith("-") for word in rest)
    if rest and not settings:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.words = [*args.words, *rest]
    return args


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their words."""
    parser = argparse.ArgumentParser(
        prog="openr1",
        description="The open reproduction of DeepSeek-R1: recipes of stages, from prompts to a report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"openr1 {__version__}")
    parser.set_defaults(call=None, json=False)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    def verb(name: str, call: Callable[[argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.add_argument("--json", action="store_true", help="one JSON document on stdout")
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        sub.set_defaults(call=call)
        return sub

    for group in (recipes, jobs, results, sharing, machine):
        group.add_verbs(verb)
    return parser
