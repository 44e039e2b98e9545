"""Kill -9 is a normal event: a run killed at random instants ends as the run that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = {"tiny_short": int(os.environ.get("OPENR1_TEST_KILLS", "10")), "tiny_r1": 3}
RL = ("r1_zero", "reasoning_rl", "final", "student_rl")
SHORT_R1 = [
    "data.digits=[1,2]",
    "stages.prompts.splits.eval.size=64",
    "stages.prompts.splits.rl.size=320",
    "stages.prompts.splits.sampled.size=64",
    "stages.prompts.splits.gold.size=128",
    *(f"stages.prompts.splits.{corpus}.size=9600" for corpus in ("corpus", "easy_corpus")),
    *(f"stages.{base}.train.save_steps=50" for base in ("base", "student_base")),
    *(f"stages.{s}.train.{k}" for r in RL for s in (r, f"{r}_control") for k in ("max_steps=6", "save_steps=2")),
]
# every stage of the miniature, hardly any learning: the recipe itself takes ten minutes
OVERRIDES = {"tiny_short": [], "tiny_r1": SHORT_R1}
SAME = ("prompts", "*/model", "curate", "*/samples", "*/probes")
TIMES = {"seconds", "total_seconds", "evaluation", "cost"}


def start(folder: Path, recipe: str) -> subprocess.Popen[bytes]:
    log = open(folder / "stderr.log", "ab")  # noqa: SIM115
    command = [
        sys.executable,
        "-m",
        "openr1.cli",
        "run",
        f"recipe={recipe}",
        "run=r",
        "cluster.workers=2",
        *OVERRIDES[recipe],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def run_to_the_end(folder: Path, recipe: str) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    process = start(folder, recipe)
    assert process.wait(timeout=3600) == 0, (folder / "stderr.log").read_text()[-2000:]
    return time.monotonic() - began


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of every output file that law 6 says is the same to the byte."""
    return {
        str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest()
        for part in SAME
        for folder in sorted(run.glob(part))
        for p in sorted(folder.rglob("*"))
        if p.suffix in (".parquet", ".safetensors")
    }


def findings(run: Path) -> dict[str, Any]:
    """What the report says of the models and the claims, times left out."""
    report = json.loads((run / "report.json").read_text())
    models = {n: {k: v for k, v in m.items() if k not in TIMES} for n, m in report["models"].items()}
    return {"models": models, "verdicts": {c["id"]: c["verdict"] for c in report["claims"]}}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", list(KILLS))
def test_a_run_killed_at_random_instants_ends_the_same(recipe: str, tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    seconds = run_to_the_end(calm, recipe)
    rng = random.Random(int(os.environ.get("OPENR1_TEST_SEED", "0")))
    for _ in range(KILLS[recipe]):
        process = start(killed, recipe)
        with pytest.raises(subprocess.TimeoutExpired):  # a process starts anew each time, so it cannot be through
            process.wait(timeout=rng.uniform(1.0, 8.0 + 0.8 * seconds / KILLS[recipe]))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run_to_the_end(killed, recipe)
    manifests = [json.loads(m.read_text()) for m in (killed / "runs" / "r").glob("*/manifest.json")]
    assert any(a["exit"] == "killed" for m in manifests for a in m["attempts"])
    expected = digests(calm / "runs" / "r")
    assert len(expected) >= 10
    assert digests(killed / "runs" / "r") == expected
    assert findings(killed / "runs" / "r") == findings(calm / "runs" / "r")
    assert not list((killed / "runs" / "r").glob("*.old-*"))
