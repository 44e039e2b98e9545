"""kill -9 of a real training process, at a known instant and at random ones: the same bytes in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import killable
import pytest

from openr1.metrics import read_metrics
from openr1.train import checkpoints, rollouts


def start(kind: str, model: Path, work: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(killable.__file__)), kind, str(model), str(work)]
    work.mkdir(parents=True, exist_ok=True)
    with open(work.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool], limit: float = 120.0) -> bool:
    """kill -9 as soon as `reached`; False if the process ended by itself before."""
    deadline = time.monotonic() + limit
    while process.poll() is None and time.monotonic() < deadline:
        if reached():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    process.wait(timeout=1)
    return False


def finish(kind: str, model: Path, work: Path) -> None:
    assert start(kind, model, work).wait(timeout=300) == 0, work.with_suffix(".log").read_text()[-3000:]


def same(kind: str, one: Path, two: Path) -> None:
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (one / "model" / name).read_bytes() == (two / "model" / name).read_bytes(), name
    steps = [[row["step"] for row in read_metrics(f / "metrics.jsonl")] for f in (one, two)]
    assert steps[0] == steps[1] == list(range(1, killable.STEPS[kind] + 1))
    assert (two / "metrics.jsonl").read_text().count("\n") == killable.STEPS[kind]
    if kind == "grpo":
        assert rollouts.read(one).equals(rollouts.read(two))


def logged(work: Path) -> int:
    path = work / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_in_the_middle_of_a_generation_cycle(tiny: Path, tmp_path: Path) -> None:
    killable.run("grpo", tiny, tmp_path / "whole")
    work = tmp_path / "killed"
    assert kill_when(start("grpo", tiny, work), lambda: logged(work) >= 4)
    finish("grpo", tiny, work)
    same("grpo", tmp_path / "whole", work)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_killed_ten_times_at_random_instants(kind: str, tiny: Path, tmp_path: Path) -> None:
    """Kills fall anywhere in a step and, every third one, while a checkpoint is written."""
    killable.run(kind, tiny, tmp_path / "whole")
    work = tmp_path / "killed"
    chance = random.Random(0)
    kills = 0
    for attempt in range(10):
        newest = max((checkpoints.step_of(p) for p in work.glob("checkpoint-*")), default=0)
        target = min(newest + chance.randrange(1, 7), killable.STEPS[kind] - 1)
        process = start(kind, tiny, work)
        if attempt % 3 == 2:
            kills += kill_when(process, lambda: (work / ".saving").exists())
        else:
            kills += kill_when(process, lambda step=target: logged(work) >= step)  # type: ignore[misc]
    assert kills >= 5
    finish(kind, tiny, work)
    same(kind, tmp_path / "whole", work)
    assert not (work / ".saving").exists()
