"""A recipe as chained jobs ends as `openr1 run` does, also after a scancel in the middle and a second submit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slurm_run import RUN, Run, environment, openr1, queue, slurm, until, workers

pytestmark = pytest.mark.slurm
SMALL = [
    "recipe=tiny_short", "track.mode=off", "stages.prompts.splits.eval.size=16", "stages.prompts.splits.dev.size=8",
    "stages.prompts.splits.train.size=300", "stages.prompts.splits.rl.size=32", "stages.sft.train.max_steps=60",
    "stages.sft.train.save_steps=20", *(f"stages.{s}.train.max_steps=2" for s in ("grpo", "grpo_control")),
    *(f"stages.{s}.train.save_steps=1" for s in ("grpo", "grpo_control")),
]  # fmt: skip
TRAINED = ("sft", "grpo", "grpo_control")
TIMES = {"seconds", "total_seconds", "evaluation", "cost"}


def models(run: Run) -> dict[str, Any]:
    """What the report says of the models, times left out."""
    report = json.loads((run.path / "report.json").read_text())
    return {name: {k: v for k, v in found.items() if k not in TIMES} for name, found in report["models"].items()}


def test_a_cancelled_and_resubmitted_chain_is_the_local_run(tmp_path: Path) -> None:
    here, there = Run(tmp_path / "here"), Run(tmp_path / "there")
    for run in (here, there):
        run.folder.mkdir()
    found = there.submit(*SMALL)
    ids = {job["stage"]: job["job"] for job in found["jobs"]}
    assert len(ids) == 10 and len(queue()) <= 10
    there.reaches(20)
    held = workers(there)
    assert held
    for process in held:  # however fast the machine is, sft shall not be done before it is cancelled
        process.suspend()
    again = there.submit(*SMALL)  # all of it is at work or queued
    assert again["jobs"] == [] and again["queued"]["sft"] == [ids["sft"]] and again["done"] == ["prompts"]
    slurm("scancel", ids["sft"])
    for process in held:
        process.resume()
    until(lambda: not queue(), 60, "the jobs that waited for sft are gone")
    states = there.status()
    assert states["sft"]["state"] == "cancelled" and f"job {ids['sft']} was cancelled" in states["sft"]["note"]
    assert (
        states["generate"]["state"] == "cancelled" and "was not started: sft cancelled" in states["generate"]["note"]
    )
    rest = there.submit(*SMALL)
    assert {job["stage"] for job in rest["jobs"]} == set(ids) - {"prompts"} and rest["done"] == ["prompts"]
    command = [sys.executable, "-m", "openr1.cli", "run", *SMALL, f"run={RUN}"]
    local = subprocess.Popen(command, cwd=here.folder, env=environment(), stderr=subprocess.PIPE, text=True)
    _, said = local.communicate(timeout=580)
    assert local.returncode == 0, said
    there.ends()
    assert {s["state"] for s in there.status().values()} == {"done"}
    for stage in TRAINED:
        assert there.learned(stage) == here.learned(stage) != []
    assert there.digests() == here.digests() != {}
    assert models(there) == models(here)
    assert there.manifest("sft")["attempt"] == 2 and "resuming from checkpoint-" in there.log("sft")
    assert all(there.manifest(stage)["attempt"] == 1 for stage in set(ids) - {"sft"})
    logs = openr1(there.folder, "logs", RUN, "sft", "--follow")
    assert logs.returncode == 0 and "sft done in" in logs.stdout
    assert there.submit(*SMALL)["jobs"] == []


def test_shards_are_an_array_and_only_missing_ones_are_made_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    words = [
        "recipe=tiny_generate", "track.mode=off", "stages=[prompts,sft,generate,verify]",
        "stages.sft.train.max_steps=10",
        "stages.prompts.splits.problems.size=24", "stages.prompts.splits.train.size=64", "stages.generate.k=2",
        "stages.prompts.splits.dev.size=8", "stages.generate.resources.shards=3", "cluster.shards_at_once=2",
    ]  # fmt: skip
    first = run.submit(*words)
    ids = {(job["stage"], job["part"]): job["job"] for job in first["jobs"]}
    assert "ArrayTaskThrottle=2" in slurm("scontrol", "show", "job", ids["generate", "shards"])
    slurm("scancel", f"{ids['generate', 'shards']}_1")  # one of them fails, and so does what waits for it
    run.ends()
    states = run.status()
    assert states["generate"]["state"] == "cancelled" and states["verify"]["state"] == "cancelled"
    rest = run.submit(*words)
    parts = {(job["stage"], job["part"]): job["tasks"] for job in rest["jobs"]}
    assert parts == {("generate", "shards"): 1, ("generate", "merge"): 0, ("verify", "stage"): 0}
    run.ends()
    assert {run.status()[s]["state"] for s in ("generate", "verify")} == {"done"}
    made = run.manifest("generate")
    assert made["counts"]["out"] == 48 and [s["shard"] for s in made["shards"]] == ["0/3", "1/3", "2/3"]
    assert [s["attempts"] for s in made["shards"]] == [1, 1, 1]
