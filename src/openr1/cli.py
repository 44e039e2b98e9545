"""The verbs of `openr1`, nothing else: words in, one call into a room, words out.

With --json a verb prints one JSON document on stdout and nothing else there; everything for people goes to stderr.
A verb that fails prints {"problems": [...], "exit": N} there. Exit codes: 0 done, 1 a problem the user can mend, 2
wrong usage, 3 the outside failed, 130 interrupted from the keyboard, 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openr1 import __version__
from openr1.errors import OpenR1Error, UsageError, UserError
from openr1.launch.words import asked_shard, asked_stages, compose
from openr1.records import MASKED

EPILOG = """settings are written key=value, e.g.
  openr1 run recipe=tiny                                   run a recipe here; the same command resumes it
  openr1 run recipe=tiny run=hot stages.grpo.train.learning_rate=1e-4
  openr1 run recipe=tiny stages=[prompts,sft]              only these stages
  openr1 run recipe=tiny kinds=[generate]                  all stages of a kind and what they read from
  openr1 run recipe=tiny rerun=[grpo]                      again, the old output is kept aside
  openr1 run recipe=tiny stages=[generate] shard=3/16      one of 16 tasks that fill one store
RUN is a name under runs/ (or OPENR1_RUNS), or a path where it has a slash."""


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

    def verb(name: str, call: Callable[[Any], Any], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.add_argument("--json", action="store_true", help="one JSON document on stdout")
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        sub.set_defaults(call=call)
        return sub

    meaning = "recipe=NAME run=NAME stages=[a,b] kinds=[a] rerun=[a] shard=i/N and settings"
    words: dict[str, Any] = {"nargs": "*", "metavar": "key=value", "help": meaning}
    run = verb("run", cmd_run, "run a recipe here, resuming what is unfinished")
    run.add_argument("words", **words)
    evaluate = verb("evaluate", cmd_evaluate, "answer benchmarks with a model: scores with intervals, and a report")
    evaluate.add_argument(
        "words", nargs="*", metavar="key=value", help="model=PATH_OR_ID benchmark=NAME[,NAME] k= engine= and settings"
    )
    check = verb("check", cmd_check, "find every problem of a recipe that settings and files can tell, without torch")
    check.add_argument("words", **words)
    check.add_argument("--data", action="store_true", help="also draw the data: columns, splits, golds")
    check.add_argument("--strict", action="store_true", help="exit 1 when something could not be checked")
    fetch = verb("fetch", cmd_fetch, "get a recipe's models and data into the cache, for nodes without internet")
    fetch.add_argument("words", **words)
    submit = verb(
        "submit", cmd_submit, "queue a recipe on a Slurm cluster, a job a stage; again goes on with what is left"
    )
    submit.add_argument("words", **words)
    submit.add_argument("--dry-run", action="store_true", help="write the sbatch files, submit nothing")
    cancel = verb("cancel", cmd_cancel, "end the Slurm jobs of a run, those that wait and those that run")
    cancel.add_argument("run", metavar="RUN", help="a name under runs/, or a path")
    status = verb("status", cmd_status, "say what a run is doing; without RUN, list the runs")
    status.add_argument("run", nargs="?", metavar="RUN", help="a name under runs/, or a path")
    logs = verb("logs", cmd_logs, "print the log of a stage's latest attempt")
    logs.add_argument("run", metavar="RUN", help="a name under runs/, or a path")
    logs.add_argument("stage", nargs="?", metavar="STAGE", help="by default the stage that wrote last")
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing until the stage has ended")
    grade = verb("grade", cmd_grade, "grade the completions of a Parquet or JSONL file, as training and evaluation do")
    grade.add_argument("file", metavar="FILE", help="rows with a completion and a gold answer each")
    grade.add_argument("--gold", metavar="COL", default="answer", help="column of the gold answer (answer)")
    grade.add_argument("--completion", metavar="COL", default="completion", help="column to grade (completion)")
    grade.add_argument(
        "--finish-reason", metavar="COL", default="finish_reason", help="why generation ended, where it is known"
    )
    grade.add_argument("--verifier", metavar="NAME", default="math", help="a verifier's name or module:Class (math)")
    grade.add_argument("-o", "--output", metavar="OUT", help="by default FILE with .graded before its ending")
    grade.add_argument("--workers", metavar="N", type=int, help="worker processes (by default one a core)")
    compare = verb("compare", cmd_compare, "what differs between runs, what it did to the metrics, and how sure")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="names, paths or .wandb files; the first is the base")
    compare.add_argument("--source", choices=("local", "wandb"), default="local", help="wandb: RUN is project/group")
    compare.add_argument("--filter", metavar="JSON", help="of --source wandb: W&B's own query")
    compare.add_argument("--html", metavar="FILE", help="write the comparison as a page")
    compare.add_argument("--csv", metavar="FILE", help="write metrics, and paired evaluations beside them")
    _publish_words(verb("publish", cmd_publish, "send a dataset or a model of a run to the Hub, private by default"))
    sync = verb("sync", cmd_sync, "send the metrics of a run to W&B, from its local logs")
    sync.add_argument("run", metavar="RUN", help="a name under runs/, or a path")
    doctor = verb(
        "doctor", cmd_doctor, "say what this machine can do, and with recipe= whether its cluster can run it"
    )
    doctor.add_argument("words", **words)
    return parser


def _publish_words(publish: argparse.ArgumentParser) -> None:
    add = publish.add_argument
    add("run", metavar="RUN", help="a name under runs/, or a path")
    add("--stage", metavar="NAME", help="by default the only curate stage, or the last model")
    add("--repo", metavar="ID", required=True, help="owner/name on the Hub")
    add("--type", choices=("dataset", "model"), required=True, help="what to publish")
    add("--prefix", metavar="NAME", default="", help="before the names of the dataset's configs")
    add("--checkpoints", action="store_true", help="every checkpoint too, each a branch checkpoint-N")
    add("--logs", action="store_true", help="the logs of the stages too")
    add("--licence", metavar="NAME", help="of the whole; by default what the sources ask for")
    add("--licence-of", metavar="ID=NAME", action="append", default=[], help="of a source that openr1 does not know")
    add("--allow-personal", action="store_true", help="go on although a list of e-mail addresses was found")
    add("--public", action="store_true", help="for everyone to read; asks first")
    add("--yes", action="store_true", help="do not ask")
    add("--pr", action="store_true", help="propose it as a pull request")
    add("--dry-run", action="store_true", help="write the folder and send nothing")


# ------------------------------------------------------------------------------------------------------------ verbs
def cmd_run(args: argparse.Namespace) -> Any:
    from openr1.launch.run import run_recipe, run_shard
    from openr1.log import LineSink, TerminalSink, setup_logging

    setup_logging(sink=TerminalSink() if sys.stderr.isatty() else LineSink())
    recipe, own = compose(args.words)
    only, rerun = asked_stages(recipe, own)
    if shard := asked_shard(recipe, own, only, rerun):
        return _say_shard(run_shard(recipe, only, rerun, shard), args.json)
    report = run_recipe(recipe, only=only, rerun=rerun)
    if not args.json:
        from openr1.report import terminal

        _console().print(terminal(report))
    return report


def cmd_evaluate(args: argparse.Namespace) -> Any:
    from openr1.launch.checkpoints import training_stage

    named = {word.partition("=")[0] for word in args.words}
    lacking = [w for w in ("model", "benchmark") if w not in named]
    if lacking:
        raise UsageError(f"evaluate: {' and '.join(lacking)} not named; say model=PATH_OR_ID benchmark=NAME[,NAME]")
    if "recipe" in named:
        raise UsageError("evaluate: has a recipe of its own; leave recipe= out, or use openr1 run")
    if (stage := training_stage(_value_of("model", args.words))) is not None:
        return _evaluate_checkpoints(stage, args)
    args.words = ["recipe=evaluate", *args.words]
    return cmd_run(args)


def _evaluate_checkpoints(stage: Path, args: argparse.Namespace) -> Any:
    from openr1.launch.checkpoints import evaluate_checkpoints
    from openr1.log import LineSink, TerminalSink, setup_logging

    setup_logging(sink=TerminalSink() if sys.stderr.isatty() else LineSink())
    found = evaluate_checkpoints(stage, args.words)
    if not args.json:
        from openr1.report.console import checkpoints_table

        _console().print(checkpoints_table(found["checkpoints"]))
    return found


def _value_of(key: str, words: Sequence[str]) -> str:
    return next(w.partition("=")[2] for w in words if w.partition("=")[0] == key)


def _say_shard(found: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """What a shard did, a line a stage, on stderr as the summary of a whole run is."""
    if not as_json:
        for name, did in found["stages"].items():
            out, tokens = did["counts"].get("out", 0), did["tokens"].get("generated", 0)
            sys.stderr.write(f"{name}, shard {found['shard']}: {out} completions, {tokens} tokens\n")
    return found


def cmd_check(args: argparse.Namespace) -> Any:
    from openr1.launch.check import check

    recipe, own = compose(args.words)
    only, rerun = asked_stages(recipe, own)
    asked_shard(recipe, own, only, rerun)
    found = check(recipe, data=args.data)
    if not args.json:
        for line in found["lines"]:
            sys.stdout.write(line + "\n")
    if found["problems"]:
        raise CheckFailed(found, found["problems"])
    if args.strict and found["not_checked"]:
        raise CheckFailed(found, [f"not checked: {what}" for what in found["not_checked"]])
    return found


class CheckFailed(UserError):
    """What `check` found, with problems."""

    def __init__(self, found: Mapping[str, Any], problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.found = found


def cmd_fetch(args: argparse.Namespace) -> Any:
    from openr1.launch.fetch import fetch
    from openr1.log import LineSink, setup_logging

    setup_logging(sink=LineSink())
    recipe, _ = compose(args.words)
    _, found = fetch(recipe)
    if not args.json:
        for thing in found:
            at = f" at {thing.commit}" if thing.commit else ""
            sys.stdout.write(f"{thing.stage}: {thing.what} {thing.source}{at}  {thing.path or ''}\n")
        sys.stdout.write("" if found else f"{recipe.recipe}: needs nothing from the Hub or PyPI\n")
    return {"recipe": recipe.recipe, "fetched": [asdict(thing) for thing in found]}


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
        _console(stderr=False).print(_status_table(folder, rows))
        if problem:
            sys.stderr.write(f"openr1: its jobs: {problem}\n")
    return {"run": folder.name, "path": str(folder), "stages": [asdict(r) for r in rows], "slurm_problem": problem}


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
    scored = found["n"] - sum(found["by_status"].get(status, 0) for status in MASKED)
    accuracy = "no row could be scored"
    if found["accuracy"] is not None:
        interval = f"95% interval {found['low']:.3f} to {found['high']:.3f}, n = {scored}"
        accuracy = f"accuracy {found['accuracy']:.3f} ({interval})"
    counts = ", ".join(f"{status} {n}" for status, n in sorted(found["by_status"].items(), key=lambda i: -i[1]))
    speed = f", {found['pairs_per_second']:g} a second" if found["pairs_per_second"] else ""
    return [accuracy, f"{found['n']} completions: {counts or 'none'}", f"{found['seconds']:.1f} s{speed}"]


def cmd_compare(args: argparse.Namespace) -> Any:
    from openr1.launch.comparison import Comparison

    found = Comparison.of(args.runs, args.source, args.filter)
    found.write(args.html, args.csv)
    if not args.json:
        _console(stderr=False).print(found.terminal())
    return found.told


def cmd_publish(args: argparse.Namespace) -> Any:
    from openr1.hub import Publication, publish, publish_folder
    from openr1.launch.status import find_run

    licences = dict(word.partition("=")[::2] for word in args.licence_of)
    if not all(licences.values()):
        raise UsageError("publish: --licence-of takes ID=NAME, as in --licence-of org/data=cc-by-4.0")
    ask = Publication(
        args.repo, args.type, args.stage, args.prefix, args.licence, licences, args.public, args.pr, args.checkpoints,
        args.logs, args.allow_personal,
    )  # fmt: skip
    folder = find_run(args.run)
    out = folder / "publish" / args.repo.replace("/", "--")
    if args.dry_run:
        plan = publish_folder(folder, ask, out)
        if not args.json:
            sys.stdout.write(f"{plan.folder}: {len(plan.files)} files, {plan.bytes:,} bytes, nothing sent\n")
        return asdict(plan)
    if args.public and not args.yes:
        _ask_for(f"Everyone will be able to read {args.type} {args.repo}. Publish it?", "--yes")
    done = publish(folder, ask, out)
    if not args.json:
        sys.stdout.write("\n".join(_published_lines(done)) + "\n")
    return done.as_json()


def _ask_for(question: str, option: str) -> None:
    """A yes from the keyboard; UserError without one, or without a keyboard."""
    if not sys.stdin.isatty():
        raise UserError(f"{question} There is nobody to ask; say {option}")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("nothing was sent")


def _published_lines(done: Any) -> list[str]:
    """What was sent, for people: where it is, at which commit, and what is worth a look."""
    plan, lines = done.plan, []
    for one, sent in [(plan, done.sent), *done.checkpoints]:
        did = f"{sent.changed} of {len(one.files)} files changed" if sent.changed else "all of it was there already"
        lines.append(f"{sent.url}: {did}, commit {sent.commit[:12]}, read back by hash")
    lines.append(f"{'private' if done.private else 'public'}, licence {plan.licence}, {plan.bytes:,} bytes")
    found = ", ".join(f"{n} {what}" for what, n in plan.personal.items() if n)
    return [*lines, *([f"possibly personal data: {found}"] if found else [])]


def cmd_sync(args: argparse.Namespace) -> Any:
    from openr1.launch.status import find_run
    from openr1.launch.tracking import sync_run

    found = sync_run(find_run(args.run))
    if not args.json:
        for stage, told in found["stages"].items():
            sys.stdout.write(f"{stage}: {told['steps']} steps sent, {told['url']}\n")
    return found


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
        raise CheckFailed(found, found["recipe"]["problems"])
    return found


# ---------------------------------------------------------------------------------------------------------- output
def _console(stderr: bool = True) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


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


if __name__ == "__main__":
    main()
