"""Errors that a person can act on: what was found, where, and what to do.

The command line prints them as one line each and turns their class into an exit code. Anything else is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def did_you_mean(word: str, known: Iterable[str], most: int = 3) -> str:
    """A hint that lists the nearest known words, or all of them when there are few and none is near.

    >>> did_you_mean("learning_rte", ["learning_rate", "seed"])
    'did you mean learning_rate?'
    """
    options = sorted(set(known))
    near = difflib.get_close_matches(str(word), options, n=most, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not options:
        return "nothing is known here"
    shown = ", ".join(options[:20]) + (", …" if len(options) > 20 else "")
    return f"known: {shown}"
