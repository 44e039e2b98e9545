"""kill -9 of a real training process, at a known instant and at random ones: the same bytes in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import killable
import pytest

from openr1.metrics import of_the_machine, read_metrics
from openr1.train import checkpoints, rollouts

KILLS = 10


class Stages:
    """Attempts of one case after another, each a process of its own."""

    def __init__(self, model: Path) -> None:
        command = [sys.executable, str(Path(killable.__file__)), str(model)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, case: str, work: Path) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case} {work}\n")
        self.process.stdin.flush()
        return int(self._line())

    def ended(self) -> int:
        """How the attempt ended; waits for it."""
        return int(self._line())

    def _line(self) -> str:
        """The next line of ours: libraries print too."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().lstrip("-").isdigit():
                return line
        raise AssertionError("the process that starts stages is gone")

    def finish(self, case: str, work: Path) -> None:
        self.start(case, work)
        assert self.ended() == 0, work.with_suffix(".log").read_text()[-3000:]

    def kill_when(self, case: str, work: Path, reached: Callable[[], bool], limit: float = 300.0) -> bool:
        """kill -9 as soon as `reached`; False if the attempt ended by itself before."""
        process, deadline = self.start(case, work), time.monotonic() + limit
        while time.monotonic() < deadline:
            if reached():
                os.kill(process, signal.SIGKILL)
                break
            time.sleep(0.002)
        status = self.ended()
        assert status in (0, -signal.SIGKILL), work.with_suffix(".log").read_text()[-3000:]
        return status != 0


@pytest.fixture(scope="module")
def stages(tiny: Path) -> Iterator[Stages]:
    found = Stages(tiny)
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    found.process.wait(timeout=60)


def timeless(work: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not of_the_machine(k)} for row in read_metrics(work / "metrics.jsonl")]


def same(case: str, one: Path, two: Path) -> None:
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (one / "model" / name).read_bytes() == (two / "model" / name).read_bytes(), name
    assert timeless(one) == timeless(two)
    assert [row["step"] for row in timeless(two)] == list(range(1, killable.steps(case) + 1))
    assert (two / "metrics.jsonl").read_text().count("\n") == killable.steps(case)
    if case.startswith("grpo"):
        assert rollouts.read(one).equals(rollouts.read(two))


def logged(work: Path) -> int:
    path = work / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_in_the_middle_of_a_generation_cycle(stages: Stages, tmp_path: Path) -> None:
    stages.finish("grpo", tmp_path / "whole")
    work = tmp_path / "killed"
    assert stages.kill_when("grpo", work, lambda: logged(work) >= 4)
    stages.finish("grpo", work)
    same("grpo", tmp_path / "whole", work)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(killable.CASES))
def test_killed_ten_times_at_random_instants(case: str, stages: Stages, tmp_path: Path) -> None:
    """Kills fall anywhere in a step and, every third one, while a checkpoint is written."""
    stages.finish(case, tmp_path / "whole")
    work = tmp_path / "killed"
    chance = random.Random(case)
    kills, last = 0, killable.steps(case) - 1
    for attempt in range(2 * KILLS):
        newest = max((checkpoints.step_of(p) for p in work.glob("checkpoint-*")), default=0)
        target, delay = min(newest + chance.randrange(1, 5), last), chance.random() * 0.3
        if attempt % 3 == 2 and newest < last - 8:
            kills += stages.kill_when(case, work, lambda: (work / ".saving").exists())
        else:
            kills += stages.kill_when(case, work, lambda: logged(work) >= target and not time.sleep(delay))  # noqa: B023
        if kills == KILLS:
            break
        if (work / "model").exists():  # it came to its end: the last steps once more
            _forget_the_end(work)
    assert kills == KILLS
    stages.finish(case, work)
    same(case, tmp_path / "whole", work)
    assert not (work / ".saving").exists()


def _forget_the_end(work: Path) -> None:
    """As if the newest checkpoint and the model had never been written; what was before them goes on from there."""
    import shutil

    found = sorted(work.glob("checkpoint-*"), key=checkpoints.step_of)
    shutil.rmtree(work / "model")
    for checkpoint in found[1:] or found:
        shutil.rmtree(checkpoint)
