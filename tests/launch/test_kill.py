"""Kill -9 is a normal event: a run killed at random instants ends as the run that nobody disturbed."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("OPENR1_TEST_KILLS", "10"))
COMMAND = [sys.executable, "-m", "openr1.cli", "run", "recipe=tiny_short", "cluster.workers=2"]
SAME = ("prompts", "sft/model", "curate", "grpo/model", "grpo_control/model", "evaluate_after/samples")


def start(folder: Path) -> subprocess.Popen[bytes]:
    log = open(folder / "stderr.log", "ab")  # noqa: SIM115
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(COMMAND, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def run_to_the_end(folder: Path) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    process = start(folder)
    assert process.wait(timeout=900) == 0, (folder / "stderr.log").read_text()[-2000:]
    return time.monotonic() - began


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of every output file that law 6 says is the same to the byte."""
    return {
        str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest()
        for part in SAME
        for p in sorted((run / part).rglob("*"))
        if p.suffix in (".parquet", ".safetensors")
    }


@pytest.mark.slow
def test_a_run_killed_at_random_instants_ends_the_same(tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    seconds = run_to_the_end(calm)
    rng = random.Random(int(os.environ.get("OPENR1_TEST_SEED", "0")))
    for _ in range(KILLS):
        process = start(killed)
        try:
            process.wait(timeout=rng.uniform(1.0, seconds / 2))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    run_to_the_end(killed)
    expected = digests(calm / "runs" / "tiny_short")
    assert len(expected) >= 10
    assert digests(killed / "runs" / "tiny_short") == expected
    assert not list((killed / "runs" / "tiny_short").glob("*.old-*"))
