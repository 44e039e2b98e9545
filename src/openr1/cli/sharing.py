"""Verbs that send a run's results somewhere: publish to the Hub, sync to W&B."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from openr1.cli.words import AddVerb, add_run
from openr1.errors import UsageError, UserError


def add_verbs(verb: AddVerb) -> None:
    _publish_words(verb("publish", cmd_publish, "send a dataset or a model of a run to the Hub, private by default"))
    add_run(verb("sync", cmd_sync, "send the metrics of a run to W&B, from its local logs"))


def _publish_words(publish: argparse.ArgumentParser) -> None:
    add = publish.add_argument
    add_run(publish)
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
        read = f", {sent.read} read back byte by byte" if sent.read else ""
        lines.append(f"{sent.url}: {did}, commit {sent.commit[:12]}; all hashes agree{read}")
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
