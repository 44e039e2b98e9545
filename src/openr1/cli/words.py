"""What the verbs share: words that several of them take, and the console they print on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openr1.errors import UserError

AddVerb = Callable[[str, Callable[[argparse.Namespace], Any], str], argparse.ArgumentParser]
"""(name, function, what it does) -> the parser of a new verb."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The words of a verb that composes a recipe."""
    meaning = "recipe=NAME run=NAME stages=[a,b] kinds=[a] rerun=[a] shard=i/N and settings"
    parser.add_argument("words", nargs="*", metavar="key=value", help=meaning)


def add_run(parser: argparse.ArgumentParser, **more: Any) -> None:
    """The run that a verb is about."""
    parser.add_argument("run", metavar="RUN", help="a name under runs/, or a path", **more)


class Refused(UserError):
    """What a verb found, with problems: --json prints both."""

    def __init__(self, found: Mapping[str, Any], problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.found = found


def log_to_stderr() -> None:
    """Logging and progress of a verb that works for long: a live line on a terminal, plain lines elsewhere."""
    from openr1.log import LineSink, TerminalSink, setup_logging

    setup_logging(sink=TerminalSink() if sys.stderr.isatty() else LineSink())


def console(stderr: bool = True) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)
