"""Errors that a person can act on: what was found, where, and what to do.

The command line prints them as one line each and turns their class into an exit code. Anything else is a bug.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from contextlib import suppress

MOST_LISTED = 20


class OpenR1Error(Exception):
    """Base of every foreseeable error; `exit_code` is what the command line returns."""

    exit_code = 1


class UserError(OpenR1Error):
    """Something the user can mend: a key, a file, a value (exit 1). Holds every problem found, one line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


class UsageError(OpenR1Error):
    """The command line itself is wrong (exit 2)."""

    exit_code = 2


class OutsideError(OpenR1Error):
    """Something outside failed: network, scheduler, disk, isolation tier (exit 3)."""

    exit_code = 3


class Terminated(OutsideError):
    """Ended by SIGTERM with its state kept: the same command goes on (exit 143, a shell's code for that)."""

    exit_code = 143


def transport_errors() -> list[type[Exception]]:
    """What the HTTP client under huggingface_hub raises when nobody answers (httpx2 since 2.4, httpx before)."""
    found: list[type[Exception]] = []
    for name in ("httpx2", "httpx"):
        with suppress(ImportError):
            found.append(importlib.import_module(name).TransportError)
    return found


def did_you_mean(word: str, known: Iterable[str], most: int = 3, see: str | None = None) -> str:
    """A hint that lists the nearest known words, or all of them when there are few and none is near.

    `see` names the place that lists them, for words that are too many to list.

    >>> did_you_mean("learning_rte", ["learning_rate", "seed"])
    'did you mean learning_rate?'
    """
    options = sorted(set(known))
    near = difflib.get_close_matches(str(word), options, n=most, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not options:
        return "nothing is known here"
    if len(options) > MOST_LISTED and see is not None:
        return f"see {see}"
    shown = ", ".join(options[:MOST_LISTED]) + (", …" if len(options) > MOST_LISTED else "")
    return f"known: {shown}"
