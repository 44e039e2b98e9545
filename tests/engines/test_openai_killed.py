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


def command(folder: Path, server: ScriptedServer, *words: str) -> subprocess.Popen[bytes]:
    """`openr1 run` of the recipe, its standard error in a file."""
    line = [sys.executable, "-m", "openr1.cli", "run", "recipe=sums", "run=r", "engine=openai"]
    line += [f"engine.base_url=[{server.url}]", f"engine.concurrency={WINDOW}", "engine.max_wait_s=60", *words]
    log = open(folder / "stderr.log", "ab")  # noqa: SIM115
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def finish(folder: Path, server: ScriptedServer, *words: str) -> None:
    assert command(folder, server, *words).wait(timeout=900) == 0, (folder / "stderr.log").read_text()[-3000:]


def committed(folder: Path) -> int:
    """Bytes in the store's journal and parts: a number that grows as rows arrive."""
    files = [p for p in (folder / "runs/r/generate/store").rglob("*") if p.suffix in (".jsonl", ".parquet")]
    return sum(p.stat().st_size for p in files)


def wait_for_rows(process: subprocess.Popen[bytes], folder: Path) -> None:
    before, deadline = committed(folder), time.monotonic() + 120
    while committed(folder) <= before:
        assert process.poll() is None, (
            "it ended before it could be killed: " + (folder / "stderr.log").read_text()[-2000:]
        )
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def still_there(folder: Path) -> list[str]:
    """Processes that name the run's folder or work in it."""
    found = []
    for p in psutil.process_iter():
        try:
            line = " ".join(p.cmdline())
            if "openai_server" not in line and (str(folder) in line or p.cwd().startswith(str(folder))):
                found.append(line)
        except psutil.Error:
            continue
    return found


def killed_at_random(folder: Path, prompts: int, targets: list[str], latency: float) -> None:
    rng = random.Random(int(os.environ.get("OPENR1_TEST_SEED", "0")))
    (folder / "recipes" / "recipe").mkdir(parents=True)
    (folder / "recipes" / "recipe" / "sums.yaml").write_text(RECIPE % prompts)
    flags = ("--latency", str(latency))
    server = ScriptedServer(folder / "server", *flags)
    try:
        process = None
        for target in targets:
            if process is None:
                process = command(folder, server)
            wait_for_rows(process, folder)
            time.sleep(rng.random())
            assert process.poll() is None, "all was done before the last kill; make the server slower"
            if target == "server":  # the stage goes on when its endpoint is back
                server.kill()
                time.sleep(rng.random() * 0.5)
                server = ScriptedServer(folder / "server", *flags, port=server.port)
                continue
            children = workers(process)
            assert children, (folder / "stderr.log").read_text()[-3000:]
            victim = children[0] if target == "worker" else process
            os.kill(victim.pid, signal.SIGKILL)
            assert process.wait(timeout=30) in ((3,) if target == "worker" else (-signal.SIGKILL,))
            psutil.wait_procs(children, timeout=10)
            assert still_there(folder) == []
            assert not is_locked(folder / "runs/r/generate/store/.lock")
            process = None
        if process is not None:
            assert process.wait(timeout=900) == 0, (folder / "stderr.log").read_text()[-3000:]
        else:
            finish(folder, server)
        rows = list(
            AppendStore(folder / "runs/r/generate/store", Completion, COMPLETION_SCHEMA, {}).load().iter_rows()
        )
        wanted = {(p.prompt_id, i) for p in read_prompts(folder / "runs/r/prompts/rl") for i in range(4)}
        assert len(rows) == len(wanted) == 4 * prompts
        assert {r.key for r in rows} == wanted and not any(r.error for r in rows)
        answered = Counter(server.answered())
        repeated = answered.total() - len(answered)
        print(f"\n{len(targets)} kills ({dict(Counter(targets))}): {len(rows)} completions, {repeated} answered twice")
        assert len(answered) == 4 * prompts and {seed for _, seed in answered} == {r.seed for r in rows}
        assert repeated <= len(targets) * 4 * WINDOW, "more than was in flight"
        before = server.stats()["requests"]
        finish(folder, server)
        assert server.stats()["requests"] == before, "nothing is asked for after the end"
        assert still_there(folder) == []
    finally:
        server.kill()


def test_a_stage_and_its_server_killed_at_random_instants(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 200, ["stage", "server"], latency=0.3)


@pytest.mark.slow
def test_fifty_kills_and_exactly_eight_thousand_completions(tmp_path: Path) -> None:
    kills = int(os.environ.get("OPENR1_TEST_KILLS", "51"))
    killed_at_random(tmp_path, 2000, (["stage", "worker", "server"] * kills)[:kills], latency=1.0)
