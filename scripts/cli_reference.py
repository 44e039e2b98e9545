"""Writes docs/cli.md from the program's own parser; a test keeps the two equal."""

from __future__ import annotations

import argparse
from pathlib import Path

from openr1.cli import EPILOG, build_parser

HEAD = """# The verbs

Made from the program by `python scripts/cli_reference.py`. `--json` prints one JSON document on stdout and nothing
else there; progress and logs go to stderr. Exit codes: 0 done (a low accuracy is still done), 1 a problem you can mend
(one line each: what, where, what to do), 2 wrong usage, 3 the outside failed (network, scheduler, disk), 130
interrupted from the keyboard, 143 ended by SIGTERM; the same command goes on after both. `--debug` shows tracebacks.

"""


def reference() -> str:
    """The page: every verb with its words and options."""
    parser = build_parser()
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    texts = {a.dest: a.help or "" for a in verbs._choices_actions}
    parts = [HEAD + "```\n" + EPILOG + "\n```\n"]
    for name, sub in verbs.choices.items():
        rows = [_row(a) for a in sub._actions if a.dest not in ("help", "json", "debug")]
        usage = " ".join(sub.format_usage().removeprefix("usage: ").split())
        part = f"\n## `openr1 {name}`\n\n{texts[name][:1].upper()}{texts[name][1:]}.\n\n```\n{usage}\n```\n"
        if rows:
            part += "\n| word | meaning |\n|---|---|\n" + "".join(rows)
        parts.append(part)
    return "".join(parts)


def _row(action: argparse.Action) -> str:
    word = ", ".join(action.option_strings) or str(action.metavar)
    if action.choices:
        word += " " + "\\|".join(map(str, action.choices))
    elif action.option_strings and action.metavar:
        word += f" {action.metavar}"
    return f"| `{word}` | {action.help or ''} |\n"


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "cli.md").write_text(reference(), encoding="utf-8")
