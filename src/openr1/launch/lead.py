"""The first node of a job: it gathers the others, runs the stage on all of them, and keeps the job's record."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from openr1.config.recipe import Recipe
from openr1.errors import OpenR1Error, OutsideError, Terminated
from openr1.launch import hardware
from openr1.launch.job import Job, job_folder
from openr1.launch.local import LocalRun
from openr1.launch.plan import Step, make_plan
from openr1.launch.preflight import BadNodes, all_reduce, examine, judge, write_canary
from openr1.launch.record import REQUEUE, JobAttempt, JobRecord, State, load_record
from openr1.launch.run import plan_lines
from openr1.launch.shard_plan import make_shard_plan
from openr1.log import logger
from openr1.manifest import load_manifest
from openr1.nodes.agent import Agent
from openr1.nodes.base import Node
from openr1.nodes.current import VARIABLE, write_nodes
from openr1.nodes.remote import ANSWER_S, RemoteNode
from openr1.nodes.wire import Wire
from openr1.report import build_report
from openr1.store import Shard
from openr1.train.checkpoints import step_of

POLL_S = 0.1
PARTING_S = 20.0  # for the other nodes to end before this one
MOST_BAD = 4  # nodes that a job is requeued without
LEAVE_S = 15.0  # before the time limit: what has not been saved by then is given up, so that the job can be requeued
EARLY_S = 90.0  # Slurm's signal may come a minute before it was asked for


class Told(Protocol):
    """What came from Slurm before the stage ran."""

    told_at: float | None

    def check(self) -> None: ...


class JobRun(LocalRun):
    """The stage's run inside a job. SIGUSR1 (time limit, preemption) is as SIGTERM: what trains saves, all ends."""

    def __init__(self, recipe: Recipe, folder: Path, steps: list[Step], ends_at: float | None) -> None:
        super().__init__(recipe, folder, steps)
        self.ends_at = ends_at
        self.told_at: float | None = None

    def _forward(self, number: int) -> None:
        if self.told_at is None:
            self.told_at = time.time()
            if self.ends_at is not None:
                left = max(1.0, self.ends_at - LEAVE_S - time.time())
                timer = threading.Timer(left, self.give_up, ("the time limit came before what was done was saved",))
                timer.daemon = True
                timer.start()
        super()._forward(signal.SIGTERM)


class Lead:
    """Runs one stage (or shard) on all nodes of the job."""

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        run: Path,
        stage: str,
        shard: Shard | None,
        agent: Agent,
        deadline: float,
        signals: Told,
    ) -> None:
        self.job, self.recipe, self.folder, self.stage, self.shard = job, recipe, run, stage, shard
        self.agent, self.deadline, self.signals = agent, deadline, signals
        self.place = job_folder(run, stage, shard)
        self.record: JobRecord = load_record(self.place)
        self.attempt = JobAttempt(job.id, job.restart, job.names, started_at=time.time())
        self.attempt.progress = [self._progress()] * 2
        self.record.attempts.append(self.attempt)
        self.run_here: JobRun | None = None
        self.watches: dict[str, Wire] = {}
        self.followers: dict[str, threading.Thread] = {}
        self.working = False

    def run(self) -> int:
        """The whole of it; returns the exit code."""
        self._note("starting")
        code = 1
        try:
            code = self._account()
        finally:
            self.working = False
            self._dismiss(code)
            shutil.rmtree(self.place / self.job.meeting, ignore_errors=True)
        return code

    def _dismiss(self, code: int) -> None:
        """Tell the other nodes to end, and wait until they have: what srun reports is then this node's code."""
        for name, wire in self.watches.items():
            wire.send(end=code)
            self._start_following(name, wire)
        limit = time.monotonic() + PARTING_S
        for thread in self.followers.values():
            thread.join(max(0.0, limit - time.monotonic()))
        for wire in self.watches.values():
            wire.close()

    def _account(self) -> int:
        """Run, and put down how it ended."""
        try:
            self._gather()
            self._work()
        except BadNodes as e:
            self.attempt.bad_nodes = e.nodes
            again = len(self.record.excluded(self.job.id)) <= MOST_BAD
            return self._end("requeue" if again else "failed", REQUEUE if again else e.exit_code, e)
        except Terminated as e:
            return self._interrupted(e)
        except OpenR1Error as e:
            if self._told_at() is not None:
                return self._interrupted(e)
            return self._end("failed", e.exit_code, e)
        except Exception as e:
            self._end("failed", 1, e)
            raise
        return self._end("done", 0)

    def _note(self, state: State) -> None:
        self.attempt.state = state
        self.record.save(self.place)

    def _end(self, state: State, code: int, error: BaseException | None = None) -> int:
        self.attempt.code, self.attempt.ended_at = code, time.time()
        self.attempt.progress[1] = self._progress()
        if error is not None:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self.attempt.reason = lines[0]
            for line in lines:
                logger.error("openr1: %s", line)
        self._note(state)
        if state == "requeue":
            without = ", ".join(self.attempt.bad_nodes)
            logger.info("to be queued again%s", f" without {without}" if without else "")
        return code

    def _interrupted(self, error: BaseException) -> int:
        """Ended by a signal: back into the queue. At the time limit only where something was made since the start, and
        so many times; an attempt that was preempted is not the recipe's fault."""
        told, limit = self._told_at() or time.time(), self.job.ends_at
        self.attempt.at_limit = limit is None or told > limit - self.recipe.cluster.signal_lead_s - EARLY_S
        if not self.attempt.at_limit:
            return self._end("requeue", REQUEUE, error)
        made = self._progress() - self.attempt.progress[0]
        requeues = sum(a.state == "requeue" and a.at_limit for a in self.record.of_job(self.job.id)[:-1])
        most = self.recipe.cluster.requeues
        if made <= 0:
            why = "nothing was completed between start and time limit, another attempt would do no better; raise the "
            return self._end("failed", 3, OutsideError(f"{self.stage}: {why}time limit, or lower train.save_steps"))
        if requeues >= most:
            why = f"queued again {requeues} times, cluster.requeues allows no more; submit it again to go on"
            return self._end("failed", 3, OutsideError(f"{self.stage}: {why}"))
        return self._end("requeue", REQUEUE, error)

    def _told_at(self) -> float | None:
        return (self.run_here.told_at if self.run_here is not None else None) or self.signals.told_at

    def _progress(self) -> int:
        """How far the stage has come: steps of its newest checkpoint, or bytes of its store."""
        stage = self.folder / self.stage
        if hasattr(self.recipe.stages[self.stage], "train"):
            return max((step_of(p) for p in stage.glob("checkpoint-*")), default=0)
        store = stage / "store" / f"shard-{self.shard.name}" if self.shard else stage / "store"
        return sum(p.stat().st_size for p in store.rglob("*") if p.is_file())

    # ------------------------------------------------------------------------------------------------- the nodes
    def _gather(self) -> None:
        """All nodes are there and well, or BadNodes is raised."""
        cards = self._meet()
        nodes: list[Node] = [self.agent.node]
        problems: dict[str, list[str]] = {}
        for card in cards[1:]:
            node = RemoteNode(card, self.job.id)
            nodes.append(node)
            try:
                self.watches[node.name] = node.ask("watch")
            except OutsideError as e:
                problems[node.name] = [str(e).removeprefix(f"{node.name}: ")]
        if problems:
            raise BadNodes(problems)
        self._examine(nodes)
        if len(nodes) > 1 or (self.job.gpus > 1 and hardware.gpu_count() > 1):
            all_reduce(nodes, self.deadline)
        self.signals.check()
        path = self.place / self.job.meeting / "nodes.json"
        write_nodes(path, self.job.id, cards)
        self.nodes_file = path
        if len(nodes) > 1:
            logger.info("%d nodes are well: %s", len(nodes), ", ".join(n.name for n in nodes))

    def _meet(self) -> list[dict[str, Any]]:
        """The cards of all nodes, in order."""
        meeting, count = self.place / self.job.meeting, len(self.job.names)
        while True:
            self.signals.check()
            paths = [meeting / f"node-{i}.json" for i in range(count)]
            if all(p.exists() for p in paths):
                return [json.loads(p.read_text(encoding="utf-8")) for p in paths]
            if time.monotonic() > self.deadline:
                missing = [self.job.names[i] for i, p in enumerate(paths) if not p.exists()]
                why = f"has not written to {meeting}: no shared file system, or openr1 did not start there"
                raise BadNodes({name: [why] for name in missing})
            time.sleep(POLL_S)

    def _examine(self, nodes: list[Node]) -> None:
        canary, digest = write_canary(self.place / self.job.meeting)
        reports = {nodes[0].name: examine(self.folder, canary, self.job.gpus)}
        silent: dict[str, list[str]] = {}

        def ask(node: RemoteNode) -> None:
            with suppress(OutsideError):
                wire = node.ask("examine", canary=str(canary))
                answer = wire.receive(ANSWER_S)
                wire.close()
                if answer is not None:
                    reports[node.name] = answer

        others = [n for n in nodes if isinstance(n, RemoteNode)]
        threads = [threading.Thread(target=ask, args=(node,), daemon=True) for node in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.deadline - time.monotonic()))
        for node in others:
            if node.name not in reports:
                silent[node.name] = ["does not answer"]
        found = {**judge(dict(reports), self.recipe.cluster, digest), **silent}
        if found:
            raise BadNodes(found)

    def _start_following(self, name: str, wire: Wire) -> None:
        if name not in self.followers:
            self.followers[name] = threading.Thread(target=self._follow, args=(name, wire), daemon=True)
            self.followers[name].start()

    def _follow(self, name: str, wire: Wire) -> None:
        """Until a node is lost."""
        for _ in wire.messages():
            pass
        if self.working and self.run_here is not None:
            self.run_here.give_up(f"{name} is gone: its node died, or openr1 was killed there")

    # -------------------------------------------------------------------------------------------------- the stage
    def _work(self) -> None:
        if self.shard is not None:
            steps = make_shard_plan(self.recipe, self.folder, [self.stage], [], self.shard)
        else:
            steps = make_plan(self.recipe, self.folder, [self.stage])
        for line in plan_lines(steps):
            logger.info("%s", line)
        os.environ[VARIABLE] = str(self.nodes_file)
        self.run_here = JobRun(self.recipe, self.folder, steps, self.job.ends_at)
        self._note("running")
        self.working = True
        for name, wire in self.watches.items():
            self._start_following(name, wire)
        self.signals.check()
        try:
            self.run_here.run()
        finally:
            self.working = False
            self._report()

    def _report(self) -> None:
        if self.shard is None and load_manifest(self.folder / self.stage) is not None:
            try:
                build_report(self.folder)
            except OpenR1Error as e:
                logger.warning("no report: %s", e)
