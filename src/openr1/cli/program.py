"""From the process's words to its exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from openr1.cli.parser import build_parser, parse_args
from openr1.errors import OpenR1Error


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the command line. A reward or verifier `module:function` may lie in the working directory."""
    sys.path.insert(0, os.getcwd())  # as in the workers, which are started with -m
    sys.exit(run_cli(list(sys.argv[1:] if argv is None else argv)))


def run_cli(argv: list[str]) -> int:
    """Parse, call, report; returns the exit code."""
    args = parse_args(argv)
    debug = getattr(args, "debug", False)
    try:
        if args.call is None:
            build_parser().print_help()
            return 2
        result = args.call(args)
        if args.json:
            sys.stdout.write(json.dumps(result, ensure_ascii=False, default=str) + "\n")
        return 0
    except OpenR1Error as e:
        if debug:
            raise
        problems = getattr(e, "problems", str(e).splitlines())
        return _failed(args, problems, e.exit_code, getattr(e, "found", {}))
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return _failed(args, ["interrupted"], 130)
    except OSError as e:
        if debug:
            raise
        return _failed(args, [f"{e.filename or 'the system'}: {e.strerror or e}"], 3)


def _failed(
    args: argparse.Namespace, problems: Sequence[str], code: int, found: Mapping[str, Any] | None = None
) -> int:
    """Tell people on stderr and, with --json, programs on stdout; returns the exit code."""
    for line in problems:
        sys.stderr.write(f"openr1: {line}\n")
    if args.json:
        document = {**(found or {}), "problems": list(problems), "exit": code}
        sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
    return code
