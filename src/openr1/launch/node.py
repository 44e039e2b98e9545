"""What a Slurm job runs on each of its nodes: `python -m openr1.launch.node RUN_FOLDER STAGE [--shard i/N]`.

Every node listens for the first one (openr1.nodes.agent). That one leads (lead.py): it sees to it that all have come
and are well (preflight.py), runs the stage as `openr1 run` does, with its ranks and servers on all nodes, keeps the
job's record, and tells the others how it ended. A node that is lost, or a leader, ends all. record.py tells
the exit codes.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from openr1.config.recipe import Recipe, load_run_yaml
from openr1.engines.vllm_program import visible_gpus
from openr1.engines.watcher import descendants
from openr1.errors import OpenR1Error, OutsideError, Terminated
from openr1.launch.job import Job, job_folder
from openr1.launch.lead import Lead
from openr1.launch.local import ENVIRONMENT
from openr1.launch.preflight import examine
from openr1.log import LineSink, logger, setup_logging
from openr1.nodes.agent import Agent, end_below
from openr1.nodes.current import write_private
from openr1.nodes.local import LocalNode
from openr1.nodes.network import interface_of
from openr1.nodes.wire import Wire
from openr1.store import Shard

PREFLIGHT_S = 60.0
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    asked = _arguments()
    sys.path.insert(0, os.getcwd())
    setup_logging(sink=LineSink())
    with suppress(OSError, AttributeError):  # processes whose parents have died stay ours to end
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        code = _run(asked)
    except OpenR1Error as e:
        logger.error("openr1: %s", e)
        code = e.exit_code
    end_below(descendants)
    sys.exit(code)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m openr1.launch.node", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("stage")
    parser.add_argument("--shard", metavar="i/N")
    parser.add_argument("--preflight-s", type=float, default=PREFLIGHT_S, help="seconds until all nodes are well")
    return parser.parse_args()


def _run(asked: argparse.Namespace) -> int:
    deadline = time.monotonic() + asked.preflight_s
    signals = Signals()
    job = Job.of(os.environ)
    recipe = load_run_yaml(asked.run)
    shard = Shard.parse(asked.shard) if asked.shard else None
    place = job_folder(asked.run, asked.stage, shard)
    member = Member(job, recipe, asked.run)
    try:
        member.introduce(place / job.meeting)
        if job.index > 0:
            return member.serve(deadline + 30)
        return Lead(job, recipe, asked.run, asked.stage, shard, member.agent, deadline, signals).run()
    finally:
        member.agent.close()


class Signals:
    """SIGUSR1 (the time limit is near) and SIGTERM, until the stage itself runs: remembered, and heeded by `check`.

    Slurm sends them to every process of a step. The first node alone decides what follows.
    """

    def __init__(self) -> None:
        self.told_at: float | None = None
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda *_: setattr(self, "told_at", self.told_at or time.time()))

    def check(self) -> None:
        """Raises Terminated where one has come."""
        if self.told_at is not None:
            raise Terminated("ended by a signal before the stage began; the same command goes on from here")


class Member:
    """This node as the leader sees it: its agent, and the card that says where that listens."""

    def __init__(self, job: Job, recipe: Recipe, run: Path) -> None:
        self.job = job
        self.began, self.ended = threading.Event(), threading.Event()
        self.dismissed = False
        address = job.address(recipe.cluster.network_interface)
        self.node = LocalNode(job.name, address, interface_of(address), visible_gpus(), job.id)

        def answer(wire: Wire, request: Mapping[str, Any]) -> None:
            wire.send(**examine(run, Path(request["canary"]), job.gpus))

        self.agent = Agent(self.node, job.id, secrets.token_urlsafe(24), {"examine": answer, "watch": self._watch})

    def introduce(self, meeting: Path) -> None:
        """Put this node's card where the leader looks for it; it holds the key, and only the user can read it."""
        node = self.node
        card = {"name": node.name, "index": self.job.index, "address": node.address, "port": self.agent.port}
        card |= {"interface": node.interface, "gpus": node.gpus, "key": self.agent.key, "process": os.getpid()}
        self.meeting = meeting
        write_private(meeting / f"node-{self.job.index}.json", card)

    def _watch(self, wire: Wire, _: Mapping[str, Any]) -> None:
        """The leader's own connection: its last word is that it ends. It waits for this process to close its end."""
        self.began.set()
        for message in wire.messages():
            if "end" in message:
                self.dismissed = True
                self.ended.set()
        self.ended.set()

    def serve(self, deadline: float) -> int:
        """Until the leader says that it ends, with a code that it alone reports; returns 0.

        Raises OutsideError where it does not come, or is lost.
        """
        first = self.job.names[0]
        if not self.began.wait(max(0.0, deadline - time.monotonic())):
            raise OutsideError(
                f"{self.node.name}: {first} has not asked for it; it does not see {self.meeting} (no shared file "
                "system), or has ended"
            )
        self.ended.wait()
        if not self.dismissed:
            raise OutsideError(f"{self.node.name}: {first} is gone; what ran here is ended")
        return 0


if __name__ == "__main__":
    main()
