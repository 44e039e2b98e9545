"""The verbs of `openr1`, nothing else: words in, one call into a room, words out.

With --json a verb prints one JSON document on stdout and nothing else there; everything for people goes to stderr.
A verb that fails prints {"problems": [...], "exit": N} there. Exit codes: 0 done, 1 a problem the user can mend, 2
wrong usage, 3 the outside failed, 130 interrupted from the keyboard, 143 ended by SIGTERM.
"""

from openr1.cli.parser import EPILOG, build_parser, parse_args
from openr1.cli.program import main, run_cli

__all__ = ["EPILOG", "build_parser", "main", "parse_args", "run_cli"]
