"""Verbs that read results: grade a file of completions, compare runs."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from openr1.cli.words import AddVerb, console
from openr1.errors import UserError
from openr1.records import MASKED


def add_verbs(verb: AddVerb) -> None:
    parser = verb(
        "grade", cmd_grade, "grade the completions of a Parquet or JSONL file, as training and evaluation do"
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="rows with a completion and a gold answer each")
    add("--gold", metavar="COL", default="answer", help="column of the gold answer (answer)")
    add("--completion", metavar="COL", default="completion", help="column to grade (completion)")
    why = "why generation ended, where it is known"
    add("--finish-reason", metavar="COL", default="finish_reason", help=why)
    add("--verifier", metavar="NAME", default="math", help="a verifier's name or module:Class (math)")
    add("-o", "--output", metavar="OUT", help="by default FILE with .graded before its ending")
    add("--workers", metavar="N", type=int, help="worker processes (by default one a core)")
    parser = verb("compare", cmd_compare, "what differs between runs, what it did to the metrics, and how sure")
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="names, paths or .wandb files; the first is the base")
    add("--source", choices=("local", "wandb"), default="local", help="wandb: RUN is project/group")
    add("--filter", metavar="JSON", help="of --source wandb: W&B's own query")
    add("--html", metavar="FILE", help="write the comparison as a page")
    add("--csv", metavar="FILE", help="write metrics, and paired evaluations beside them")


def cmd_grade(args: argparse.Namespace) -> Any:
    from openr1.verify.files import grade_file, output_path

    if args.workers is not None and args.workers < 1:
        raise UserError(f"grade: --workers is {args.workers}; give 1 or more")
    columns = {"gold": args.gold, "completion": args.completion, "finish_reason": args.finish_reason}
    found = grade_file(args.file, **columns, verifier=args.verifier, output=args.output, workers=args.workers)
    if not args.json:
        sys.stdout.write("\n".join(_grade_lines(found)) + f"\n{output_path(args.file, args.output)}\n")
    return found


def _grade_lines(found: dict[str, Any]) -> list[str]:
    """The summary of a graded file for people."""
    masked = sum(found["by_status"].get(status, 0) for status in MASKED)
    scored = found["n"] - masked
    accuracy = "no row could be scored"
    if found["accuracy"] is not None:
        interval = f"95% interval {found['low']:.3f} to {found['high']:.3f}, {scored} of n = {found['n']} scored"
        accuracy = f"accuracy {found['accuracy']:.3f} ({interval})"
    counts = ", ".join(f"{status} {n}" for status, n in sorted(found["by_status"].items(), key=lambda i: -i[1]))
    speed = f", {found['pairs_per_second']:g} a second" if found["pairs_per_second"] else ""
    left_out = f", {masked} masked" if masked else ""
    return [
        accuracy,
        f"n = {found['n']} completions{left_out}: {counts or 'none'}",
        f"{found['seconds']:.1f} s{speed}",
    ]


def cmd_compare(args: argparse.Namespace) -> Any:
    from openr1.launch.comparison import Comparison

    found = Comparison.of(args.runs, args.source, args.filter)
    found.write(args.html, args.csv)
    if not args.json:
        console(stderr=False).print(found.terminal())
    return found.told
