"""Kill -9 of the stage, its worker or the server at random instants: every completion once, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai_server import ScriptedServer

from openr1.records import COMPLETION_SCHEMA, Completion
from openr1.stages.base import read_prompts
from openr1.store import AppendStore, is_locked

RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.generate: generate
  - _self_
stages:
  prompts: {task: "${data}", splits: {rl: {size: %d}}}
  generate: {inputs: {data: prompts/rl}, k: 4, sampling: {max_new_tokens: 64}}
"""
WINDOW = 64
Attempt = Any  # a subprocess.Popen, or what looks like one


def command(folder: Path, server: ScriptedServer, *words: str) -> subprocess.Popen[bytes]:
    """`openr1 run` of the recipe, its standard error in a file."""
    line = [sys.executable, "-m", "openr1.cli", "run", "recipe=sums", "run=r", "engine=openai"]
    line += [f"engine.base_url=[{server.url}]", f"engine.concurrency={WINDOW}", "engine.max_wait_s=60", *words]
    log = open(folder / "stderr.log", "ab")  # noqa: SIM115
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def finish(folder: Path, server: ScriptedServer, *words: str) -> None:
    assert command(folder, server, *words).wait(timeout=900) == 0, said(folder)


def said(folder: Path) -> str:
    return (folder / "stderr.log").read_text()[-3000:]


class Forks:
    """Attempts at the stage as forks of one process, each seen as `subprocess.Popen` is."""

    def __init__(self, folder: Path) -> None:
        log = open(folder / "stderr.log", "ab")  # noqa: SIM115
        line = [sys.executable, str(Path(__file__).with_name("forked_stage.py")), "runs/r"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.parent = subprocess.Popen(line, cwd=folder, env=environment, text=True, bufsize=1, **pipes)  # type: ignore[call-overload]
        self.pid = 0

    def start(self) -> Forks:
        self.parent.stdin.write("go\n")
        self.pid = int(self.parent.stdout.readline())
        return self

    def poll(self) -> int | None:
        ended = not psutil.pid_exists(self.pid) or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        return self.wait() if ended else None

    def wait(self, timeout: float | None = None) -> int:
        return int(self.parent.stdout.readline())


def committed(folder: Path) -> int:
    """Bytes in the store's journal and parts: a number that grows as rows arrive."""
    files = [p for p in (folder / "runs/r/generate/store").rglob("*") if p.suffix in (".jsonl", ".parquet")]
    return sum(p.stat().st_size for p in files)


def wait_for_rows(process: Attempt, folder: Path) -> None:
    before, deadline = committed(folder), time.monotonic() + 120
    while committed(folder) <= before:
        assert process.poll() is None, "it ended before it could be killed: " + said(folder)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(process: Attempt) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def still_there(folder: Path) -> list[str]:
    """Processes that name the run's folder or work in it."""
    found = []
    for p in psutil.process_iter():
        try:
            line = " ".join(p.cmdline())
            ours = "openai_server" in line or "forked_stage" in line
            if not ours and (str(folder) in line or p.cwd().startswith(str(folder))):
                found.append(line)
        except psutil.Error:
            continue
    return found


def killed_at_random(folder: Path, prompts: int, targets: list[str], latency: float, forks: bool) -> None:
    """`stage` is the process in which it runs (and `openr1 run` above it ends), `run` the `openr1 run` (and the
    stage's process with it)."""
    rng = random.Random(int(os.environ.get("OPENR1_TEST_SEED", "0")))
    (folder / "recipes" / "recipe").mkdir(parents=True)
    (folder / "recipes" / "recipe" / "sums.yaml").write_text(RECIPE % prompts)
    flags = ("--latency", str(latency))
    server = ScriptedServer(folder / "server", *flags)
    nursery: Forks | None = None
    try:
        if forks:
            finish(folder, server, "stages=[prompts]")
            nursery = Forks(folder)
        process: Attempt = None
        for target in targets:
            if process is None:
                process = nursery.start() if nursery is not None else command(folder, server)
            wait_for_rows(process, folder)
            time.sleep(rng.random())
            assert process.poll() is None, "all was done before the last kill; make the server slower"
            if target == "server":  # the stage goes on when its endpoint is back
                server.kill()
                time.sleep(rng.random() * 0.5)
                server = ScriptedServer(folder / "server", *flags, port=server.port)
                continue
            children = workers(process)
            inner = target == "stage" and not forks
            assert children or not inner, said(folder)
            os.kill(children[0].pid if inner else process.pid, signal.SIGKILL)
            assert process.wait(timeout=60) == (3 if inner else -signal.SIGKILL)
            psutil.wait_procs(children, timeout=10)
            assert still_there(folder) == []
            assert not is_locked(folder / "runs/r/generate/store/.lock")
            process = None
        if process is not None:
            assert process.wait(timeout=900) == 0, said(folder)
        finish(folder, server)
        rows = list(
            AppendStore(folder / "runs/r/generate/store", Completion, COMPLETION_SCHEMA, {}).load().iter_rows()
        )
        wanted = {(p.prompt_id, i) for p in read_prompts(folder / "runs/r/prompts/rl") for i in range(4)}
        assert len(rows) == len(wanted) == 4 * prompts
        assert {r.key for r in rows} == wanted and not any(r.error for r in rows)
        answered = Counter(server.answered())
        repeated = answered.total() - len(answered)
        kills = f"{len(targets)} kills ({dict(Counter(targets))})"
        print(f"\n{kills}: {len(rows)} completions, {repeated} answered twice")
        assert len(answered) == 4 * prompts and {seed for _, seed in answered} == {r.seed for r in rows}
        assert repeated <= len(targets) * 4 * WINDOW, "more than was in flight"
        before = server.stats()["requests"]
        finish(folder, server)
        assert server.stats()["requests"] == before, "nothing is asked for after the end"
        assert still_there(folder) == []
    finally:
        server.kill()
        if nursery is not None:
            nursery.parent.kill()
            nursery.parent.wait()


@pytest.mark.slow
def test_a_run_its_stage_and_its_server_killed_at_random_instants(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 200, ["run", "stage", "server"], latency=0.5, forks=False)


@pytest.mark.slow
def test_fifty_kills_and_exactly_eight_thousand_completions(tmp_path: Path) -> None:
    kills = int(os.environ.get("OPENR1_TEST_KILLS", "51"))
    killed_at_random(tmp_path, 2000, (["stage", "stage", "server"] * kills)[:kills], latency=1.0, forks=True)
