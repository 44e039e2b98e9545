"""Verbs about runs and their jobs: submit, cancel, status, logs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openr1.cli.words import AddVerb, add_run, add_settings, console
from openr1.errors import UsageError


def add_verbs(verb: AddVerb) -> None:
    parser = verb(
        "submit", cmd_submit, "queue a recipe on a Slurm cluster, a job a stage; again goes on with what is left"
    )
    add_settings(parser)
    parser.add_argument("--dry-run", action="store_true", help="write the sbatch files, submit nothing")
    add_run(verb("cancel", cmd_cancel, "end the Slurm jobs of a run, those that wait and those that run"))
    add_run(verb("status", cmd_status, "say what a run is doing; without RUN, list the runs"), nargs="?")
    parser = verb("logs", cmd_logs, "print the log of a stage's latest attempt")
    add_run(parser)
    parser.add_argument("stage", nargs="?", metavar="STAGE", help="by default the stage that wrote last")
    parser.add_argument("-f", "--follow", action="store_true", help="go on printing until the stage has ended")


def cmd_submit(args: argparse.Namespace) -> Any:
    from openr1.launch.slurm.points import submit_words
    from openr1.launch.slurm.words import submit_lines
    from openr1.log import LineSink, setup_logging

    setup_logging(sink=LineSink())
    runs = submit_words(args.words, dry_run=args.dry_run)
    if not args.json:
        for run in runs:
            sys.stdout.write("".join(f"{line}\n" for line in submit_lines(run)))
    return runs[0] if len(runs) == 1 else {"runs": runs}


def cmd_cancel(args: argparse.Namespace) -> Any:
    from openr1.launch.slurm.cancel import cancel_run
    from openr1.launch.status import find_run

    found = cancel_run(find_run(args.run))
    if not args.json:
        ended = ", ".join(f"{stage} ({', '.join(ids)})" for stage, ids in found["cancelled"].items())
        sys.stdout.write(f"cancelled: {ended}\n" if ended else f"{found['run']}: no job of it waits or runs\n")
    return found


def cmd_status(args: argparse.Namespace) -> Any:
    from openr1.launch.status import find_run, run_names, run_status

    if args.run is None:
        names = run_names()
        if not args.json:
            sys.stdout.write("".join(f"{n}\n" for n in names) or "no runs yet; try: openr1 run recipe=tiny\n")
        return names
    folder = find_run(args.run)
    rows, problem = run_status(folder)
    if not args.json:
        console(stderr=False).print(_status_table(folder, rows))
        if problem:
            sys.stderr.write(f"openr1: its jobs: {problem}\n")
    return {
        "run": folder.name,
        "path": str(folder),
        "stages": [asdict(r) for r in rows if r.state != "off"],  # a run is done when all of these are
        "off": {r.stage: r.note for r in rows if r.state == "off"},
        "slurm_problem": problem,
    }


def _status_table(folder: Path, rows: Sequence[Any]) -> Any:
    from rich.table import Table

    table = Table(title=str(folder), title_justify="left", box=None, pad_edge=False)
    for column, justify in (("stage", "left"), ("kind", "left"), ("state", "left"), ("attempts", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("seconds", justify="right")
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_row(row.stage, row.kind, row.state, str(row.attempts), f"{row.seconds:.1f}", row.note)
    return table


def cmd_logs(args: argparse.Namespace) -> Any:
    from openr1.launch.status import find_run, log_files
    from openr1.launch.tail import follow_logs

    folder = find_run(args.run)
    if args.follow and args.json:
        raise UsageError("logs: --follow prints as long as the stage runs; leave --json out")
    if args.follow:
        return follow_logs(folder, args.stage, sys.stdout)
    texts = {str(f): f.read_text(encoding="utf-8", errors="replace") for f in log_files(folder, args.stage)}
    if not args.json:
        for path, text in texts.items():
            sys.stdout.write(f"==> {path} <==\n{text}")
    return texts
