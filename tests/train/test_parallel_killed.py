"""kill -9 of a rank and of the process that owns it: nothing is left behind, and the same command ends the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import parallel_helpers as run
import pytest

from openr1.metrics import of_the_machine

pytestmark = pytest.mark.slow
STAGES = {"grpo_two": ("grpo", "ddp", 2, 6)}
STEPS = "stages.grpo_two.train.max_steps=8"  # enough that a kill falls into the middle
KILLS = 4


def processes(module: str, folder: Path) -> dict[int, list[str]]:
    """The processes of the run in `folder` that run a module of openr1, by their words."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if f"openr1.launch.{module}" in words and any(w.startswith(str(folder)) for w in words):
                found[int(entry.name)] = words
    return found


def rank_of(pid: int) -> int:
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return int(next(e.partition("=")[2] for e in environment if e.startswith("RANK=")))


def wait_for(what: Callable[[], bool], limit: float = 600.0) -> None:
    deadline = time.monotonic() + limit
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = run.project(tmp_path_factory.mktemp("whole"), STAGES)
    run.run(folder, STEPS)
    yield folder


@pytest.mark.parametrize(
    ("module", "rank", "message"),
    [("rank", 0, "rank 0 was killed by signal 9"), ("rank", 1, "rank 1 was killed by signal 9"), ("worker", None, "")],
)
def test_a_killed_run_goes_on_and_ends_the_same(
    whole: Path, tmp_path: Path, module: str, rank: int | None, message: str
) -> None:
    folder = run.project(tmp_path / "killed", STAGES)
    process = run.start(folder, STEPS)
    saved = folder / "runs/run/grpo_two/checkpoint-2"
    wait_for(lambda: saved.exists() or process.poll() is not None)
    ranks = processes("rank", folder)
    assert len(ranks) == 2, run.logs(folder)
    victims = processes(module, folder)
    victim = next(pid for pid in victims if rank is None or rank_of(pid) == rank)
    os.kill(victim, signal.SIGKILL)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 3 and message in messages, messages
    wait_for(lambda: not processes("rank", folder) and not processes("worker", folder), 60)
    run.run(folder, STEPS)
    same(folder, whole)


def same(folder: Path, whole: Path) -> None:
    for name in ("completion", "reward", "advantage"):
        assert run.completions(folder, "grpo_two")[name].equals(run.completions(whole, "grpo_two")[name])
    expected, found = run.weights(whole, "grpo_two"), run.weights(folder, "grpo_two")
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    rows = [
        [{k: v for k, v in row.items() if not of_the_machine(k)} for row in run.metrics(f, "grpo_two")]
        for f in (folder, whole)
    ]
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == list(range(1, 9))


def test_several_kills_at_random_instants(whole: Path, tmp_path: Path) -> None:
    """Of a rank, of another, of the process that owns them, anywhere in a step or in a save."""
    folder, chance, kills = run.project(tmp_path / "killed", STAGES), random.Random(0), 0
    stage = folder / "runs/run/grpo_two"

    def steps() -> int:
        path = stage / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    for _ in range(2 * KILLS):
        process = run.start(folder, STEPS)
        wait_for(lambda: len(processes("rank", folder)) == 2 or process.poll() is not None)  # noqa: B023
        target = min(steps() + chance.randrange(0, 2), 7)
        wait_for(lambda: steps() >= target or process.poll() is not None)  # noqa: B023
        time.sleep(chance.random() * 3)
        victims = processes(chance.choice(("rank", "worker")), folder)
        if victims:
            os.kill(chance.choice(sorted(victims)), signal.SIGKILL)
        process.communicate(timeout=300)
        kills += process.returncode == 3
        wait_for(lambda: not processes("rank", folder) and not processes("worker", folder), 60)
        if kills == KILLS:
            break
        if process.returncode == 0:  # it came to its end: from the first checkpoint once more
            for path in (stage / "model", *sorted(stage.glob("checkpoint-*"))[1:]):
                shutil.rmtree(path)
            (stage / "manifest.json").unlink()
    assert kills == KILLS
    run.run(folder, STEPS)
    same(folder, whole)
