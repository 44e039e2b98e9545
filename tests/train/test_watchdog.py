"""The watchdog: a stall leaves the stacks of all threads and ends the stage with one line, code 3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import parallel_helpers as project
import pytest

HANGING = '''
import os, time
from train_helpers import varied


def waits_for_ever(batch):
    """Hangs in the third batch, in a handler that catches whatever it can."""
    waits_for_ever.calls += 1
    while waits_for_ever.calls == 3 and os.environ.get("HANG", "0") in ("1", os.environ.get("RANK")):
        try:
            time.sleep(1000)
        except Exception:
            pass
    return varied(batch)


waits_for_ever.calls = 0
'''
SCRIPT = """
import sys
from pathlib import Path
from train_helpers import GRPO_TRAIN, make_prompt
from openr1.errors import OpenR1Error
from openr1.log import setup_logging
from openr1.metrics import MetricLog
from openr1.rewards import ComposedReward, PartSettings, RewardSettings
from openr1.train.grpo import run_grpo
from openr1.train.settings import GRPOSettings

setup_logging()
model, work = map(Path, sys.argv[1:3])
reward = RewardSettings(parts={"own": PartSettings(weight=1.0, function="hanging:waits_for_ever")})
settings = GRPOSettings(train=GRPO_TRAIN, reward=reward, watchdog_minutes=float(sys.argv[3]))
prompts = [make_prompt(a, b) for a in range(1, 5) for b in range(1, 5)]
try:
    run_grpo(model_dir=model, prompts=prompts, settings=settings, reward=ComposedReward(reward), out=work / "model",
             work=work, metrics=MetricLog(work / "metrics.jsonl"), seed=3, logs=work / "logs")
except OpenR1Error as e:
    sys.stderr.write(str(e) + "\\n")
    sys.exit(e.exit_code)
"""


def start(folder: Path, model: Path, work: Path, minutes: float) -> subprocess.CompletedProcess[str]:
    (folder / "hanging.py").write_text(HANGING)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HANG": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(Path(__file__).parent)])
    command = [sys.executable, "-c", SCRIPT, str(model), str(work), str(minutes)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_reward_that_hangs_ends_the_stage_with_its_stacks(tiny: Path, tmp_path: Path) -> None:
    work = tmp_path / "run"
    ended = start(tmp_path, tiny, work, 0.1)
    assert ended.returncode == 3, ended.stderr
    line = ended.stderr.strip().splitlines()[-1]
    assert "no micro-batch ended in 0.1 minutes" in line
    assert str(work / "logs/stacks-rank-0.log") in line
    assert "Traceback" not in ended.stderr
    stacks = (work / "logs/stacks-rank-0.log").read_text()
    assert "in waits_for_ever" in stacks
    assert stacks.count("(most recent call first)") > 1  # of all threads
    assert (work / "checkpoint-2").exists()
    assert not (work / "model").exists()


@pytest.mark.slow
def test_every_rank_leaves_its_stacks(tmp_path: Path) -> None:
    folder = project.project(tmp_path, {"two": ("grpo", "ddp", 2, 8)})
    (folder / "hanging.py").write_text(HANGING)
    own = 'stages.two.reward.parts.varied.function="hanging:waits_for_ever"'
    os.environ["HANG"] = "1"
    try:
        messages = project.run(folder, own, "+stages.two.watchdog_minutes=0.2", fails=True)
    finally:
        del os.environ["HANG"]
    assert "no micro-batch ended in 0.2 minutes" in messages
    assert "Traceback" not in messages
    for rank in range(2):
        stacks = (folder / f"runs/run/two/logs/attempt_1/stacks-rank-{rank}.log").read_text()
        assert "(most recent call first)" in stacks
    assert project.manifest(folder, "two")["status"] == "failed"
    assert project.manifest(folder, "two")["exit"]["code"] == 3
