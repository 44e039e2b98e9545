"""Verbs that compose a recipe and work here: run, evaluate, check, fetch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openr1.cli.words import AddVerb, Refused, add_settings, console, log_to_stderr
from openr1.errors import UsageError
from openr1.launch.words import asked_shard, asked_stages, compose


def add_verbs(verb: AddVerb) -> None:
    add_settings(verb("run", cmd_run, "run a recipe here, resuming what is unfinished"))
    parser = verb("evaluate", cmd_evaluate, "answer benchmarks with a model: scores with intervals, and a report")
    meaning = "model=PATH_OR_ID benchmark=NAME[,NAME] k= engine= and settings"
    parser.add_argument("words", nargs="*", metavar="key=value", help=meaning)
    parser = verb("check", cmd_check, "find every problem of a recipe that settings and files can tell, without torch")
    add_settings(parser)
    parser.add_argument("--data", action="store_true", help="also draw the data: columns, splits, golds")
    parser.add_argument("--strict", action="store_true", help="exit 1 when something could not be checked")
    add_settings(verb("fetch", cmd_fetch, "get a recipe's models and data into the cache, for nodes without internet"))


def cmd_run(args: argparse.Namespace) -> Any:
    from openr1.launch.run import run_recipe, run_shard

    log_to_stderr()
    recipe, own = compose(args.words)
    only, rerun = asked_stages(recipe, own)
    if shard := asked_shard(recipe, own, only, rerun):
        return _say_shard(run_shard(recipe, only, rerun, shard), args.json)
    report = run_recipe(recipe, only=only, rerun=rerun)
    if not args.json:
        from openr1.report import terminal

        console().print(terminal(report))
    return report


def _say_shard(found: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """What a shard did, a line a stage, on stderr as the summary of a whole run is."""
    if not as_json:
        for name, did in found["stages"].items():
            out, tokens = did["counts"].get("out", 0), did["tokens"].get("generated", 0)
            sys.stderr.write(f"{name}, shard {found['shard']}: {out} completions, {tokens} tokens\n")
    return found


def cmd_evaluate(args: argparse.Namespace) -> Any:
    from openr1.launch.checkpoints import training_stage

    named = {word.partition("=")[0] for word in args.words}
    lacking = [w for w in ("model", "benchmark") if w not in named]
    if lacking:
        from openr1.launch.evaluation import near_word

        lines = [f"evaluate: {' and '.join(lacking)} not named; say model=PATH_OR_ID benchmark=NAME[,NAME]"]
        raise UsageError("\n".join([*lines, *filter(None, map(near_word, args.words))]))
    if "recipe" in named:
        raise UsageError("evaluate: has a recipe of its own; leave recipe= out, or use openr1 run")
    if (stage := training_stage(_value_of("model", args.words))) is not None:
        return _evaluate_checkpoints(stage, args)
    args.words = ["recipe=evaluate", *args.words]
    return cmd_run(args)


def _evaluate_checkpoints(stage: Path, args: argparse.Namespace) -> Any:
    from openr1.launch.checkpoints import evaluate_checkpoints

    log_to_stderr()
    found = evaluate_checkpoints(stage, args.words)
    if not args.json:
        from openr1.report.console import checkpoints_table

        console().print(checkpoints_table(found["checkpoints"]))
    return found


def _value_of(key: str, words: Sequence[str]) -> str:
    return next(w.partition("=")[2] for w in words if w.partition("=")[0] == key)


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
        raise Refused(found, found["problems"])
    if args.strict and found["not_checked"]:
        raise Refused(found, [f"not checked: {what}" for what in found["not_checked"]])
    return found


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
