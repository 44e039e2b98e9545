"""A run of openr1 on the test cluster, as the tests see it: submitted, watched, disturbed, compared."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from openr1.metrics import of_the_machine

RUN = "r"
ROOT = Path(__file__).parents[2]
SFT = (
    "recipe=tiny_short", "stages=[prompts,sft]", "track.mode=off", "stages.prompts.splits.eval.size=16",
    "stages.prompts.splits.dev.size=8", "stages.sft.train.max_steps=60", "stages.sft.train.save_steps=10",
)  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def openr1(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "openr1.cli", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=580)


def slurm(*words: str) -> str:
    """What a command of Slurm's prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def queue() -> list[str]:
    return slurm("squeue", "--noheader", "--array", "--format=%i %T %j").splitlines()


@contextmanager
def no_controller() -> Iterator[None]:
    """A cluster whose controller has ended, as for an upgrade; afterwards it is there again."""
    pid = int((Path(os.environ["SLURM_CONF"]).parent / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    until(lambda: not psutil.pid_exists(pid), 60, "the controller has ended")
    try:
        yield
    finally:
        subprocess.run([ROOT / "slurm" / "testing" / "start"], check=True, capture_output=True, env=environment())


def until(met: Callable[[], Any], seconds: float = 120, what: str = "") -> Any:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; {queue()}"
        time.sleep(0.2)
    return found


class Run:
    """The run RUN of a working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "runs" / RUN

    def submit(self, *words: str) -> dict[str, Any]:
        done = openr1(self.folder, "submit", "--json", "cluster=test", f"run={RUN}", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *words: str) -> tuple[int, list[str]]:
        """Exit code and problems of a submit that fails."""
        done = openr1(self.folder, "submit", "--json", "cluster=test", f"run={RUN}", *words)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)["problems"]

    def status(self) -> dict[str, dict[str, Any]]:
        done = openr1(self.folder, "status", RUN, "--json")
        assert done.returncode == 0, done.stderr
        return {stage["stage"]: stage for stage in json.loads(done.stdout)["stages"]}

    def manifest(self, stage: str) -> dict[str, Any]:
        return json.loads((self.path / stage / "manifest.json").read_text())

    def record(self, stage: str) -> list[dict[str, Any]]:
        """The attempts that the jobs of a stage have put down."""
        return json.loads((self.path / ".jobs" / stage / "job.json").read_text())["attempts"]

    def reaches(self, step: int, stage: str = "sft") -> None:
        """Wait until the stage's metrics have come to a step."""
        until(lambda: any(row["step"] >= step for row in self.rows(stage)), 200, f"step {step}")

    def rows(self, stage: str) -> list[dict[str, Any]]:
        path = self.path / stage / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def learned(self, stage: str) -> list[dict[str, Any]]:
        """The metrics of a stage that trains, without those of speed."""
        return [{k: v for k, v in row.items() if not of_the_machine(k)} for row in self.rows(stage)]

    def ends(self, seconds: float = 300) -> None:
        """Wait until no job of it is left."""
        until(lambda: not queue(), seconds, "the queue is empty")

    def log(self, stage: str) -> str:
        return "".join(p.read_text() for p in sorted((self.path / stage / "logs" / "slurm").glob("*.log")))

    def digests(self, parts: tuple[str, ...] = ("prompts", "*/model", "curate", "*/samples")) -> dict[str, str]:
        """SHA-256 of the outputs that are the same to the byte however a run went."""
        files = (p for part in parts for folder in self.path.glob(part) for p in folder.rglob("*"))
        kept = sorted(p for p in files if p.suffix in (".parquet", ".safetensors") and ".old-" not in str(p))
        return {str(p.relative_to(self.path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


def workers(run: Run) -> list[psutil.Process]:
    """The processes that carry out a stage of a run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "openr1.launch.worker" in words and str(run.path) in words:
            found.append(process)
    return found
