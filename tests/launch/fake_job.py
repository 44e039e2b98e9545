"""A Slurm job without Slurm: the launcher's processes as srun would start them, two or more "nodes" on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openr1.config.compose import compose_recipe
from openr1.config.recipe import save_run_yaml, validate
from openr1.launch.job import job_folder


def make_run(folder: Path, recipe_name: str, *words: str) -> Path:
    """A run's folder as `openr1 submit` leaves it, nothing of it run."""
    recipe = validate(compose_recipe(recipe_name, ["run=r", "cluster=test", "track.mode=off", *words]))
    run = folder / "r"
    run.mkdir(parents=True, exist_ok=True)
    save_run_yaml(recipe, run)
    return run


class FakeJob:
    """One attempt: a process a node, each in a session of its own, with the environment of a step.

    Args:
        more: environment of all nodes; `own` that of single ones, by their index; `runs` their run folders; `within`
            words before their command.
        ends_in: seconds until the time limit.
    """

    def __init__(
        self,
        run: Path,
        stage: str,
        nodes: int = 2,
        job: int = 1000,
        restart: int = 0,
        more: Mapping[str, str] | None = None,
        own: Mapping[int, Mapping[str, str]] | None = None,
        runs: Mapping[int, Path] | None = None,
        within: Mapping[int, Sequence[str]] | None = None,
        words: Sequence[str] = (),
        ends_in: float = 3600,
    ) -> None:
        self.run, self.stage, self.nodes = run, stage, nodes
        self.names = [f"fake{i + 1}" for i in range(nodes)]
        self.logs = [run.parent / f"node-{job}-{restart}-{i}.log" for i in range(nodes)]
        self.processes: list[subprocess.Popen[bytes]] = []
        for i in range(nodes):
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "SLURM_JOB_ID": str(job),
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NODELIST": f"fake[1-{nodes}]" if nodes > 1 else "fake1",
                "SLURM_STEP_NUM_TASKS": str(nodes),
                "SLURM_NODEID": str(i),
                "SLURMD_NODENAME": self.names[i],
                "SLURM_RESTART_COUNT": str(restart),
                "SLURM_JOB_END_TIME": str(int(time.time() + ends_in)),
                **(more or {}),
                **((own or {}).get(i) or {}),
            }
            place = (runs or {}).get(i, run)
            command = [
                *(within or {}).get(i, ()),
                sys.executable,
                "-m",
                "openr1.launch.node",
                str(place),
                stage,
                *words,
            ]
            with open(self.logs[i], "wb") as log:
                self.processes.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )

    def wait(self, seconds: float = 240) -> list[int]:
        """The exit codes of all nodes."""
        limit = time.monotonic() + seconds
        try:
            return [p.wait(max(0.1, limit - time.monotonic())) for p in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job does not end: {self.said()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def signal(self, number: int, node: int = 0) -> None:
        os.kill(self.processes[node].pid, number)

    def said(self, node: int | None = None) -> str:
        """What the nodes have printed."""
        return "\n".join(log.read_text(errors="replace") for log in (self.logs if node is None else [self.logs[node]]))

    @property
    def attempt(self) -> dict[str, Any]:
        """The newest attempt of the record."""
        raw = json.loads((job_folder(self.run, self.stage) / "job.json").read_text())
        found: dict[str, Any] = raw["attempts"][-1]
        return found

    @property
    def excluded(self) -> str:
        """The nodes that the job is not to be given again."""
        return (job_folder(self.run, self.stage) / "exclude.txt").read_text()

    def left(self) -> list[int]:
        """Processes of the job that still live, in whatever session: all have its id in their environment."""
        mark = f"SLURM_STEP_NODELIST={'fake[1-' + str(self.nodes) + ']' if self.nodes > 1 else 'fake1'}".encode()
        place = str(self.run).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    environment = (entry / "environ").read_bytes().split(b"\0")
                    words = (entry / "cmdline").read_bytes()
                    if mark in environment and (place in words or any(place in e for e in environment)):
                        found.append(int(entry.name))
        return found


def run_here(run: Path, *stages: str) -> None:
    """Make the stages before, in this job's run, on one fake node each."""
    for n, stage in enumerate(stages):
        job = FakeJob(run, stage, nodes=1, job=500 + n)
        assert job.wait() == [0], job.said()


def kill_hard(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
