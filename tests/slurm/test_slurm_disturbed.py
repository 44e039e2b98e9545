"""What a cluster does to jobs: time limits, preemption, requeues, dead nodes, a controller that restarts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from slurm_run import RUN, SFT, Run, no_controller, queue, slurm, until, workers

pytestmark = pytest.mark.slurm


def prepared(calm: Run, folder: Path) -> Run:
    """A run whose prompts are made already."""
    run = Run(folder)
    run.path.mkdir(parents=True)
    shutil.copy(calm.path / "run.yaml", run.path)
    shutil.copytree(calm.path / "prompts", run.path / "prompts")
    return run


def job_of(run: Run, *words: str) -> str:
    """Submit its training; the job."""
    (job,) = run.submit(*SFT, *words)["jobs"]
    assert job["stage"] == "sft"
    return job["job"]


def is_the_calm_one(run: Run, calm: Run) -> None:
    run.ends()
    assert run.status()["sft"]["state"] == "done", run.log("sft")
    assert run.learned("sft") == calm.learned("sft") != []
    assert run.digests() == calm.digests() != {}


def restarts(job: str) -> int:
    found = slurm("scontrol", "show", "job", job)
    return int(found.partition("Restarts=")[2].split()[0])


def test_requeue_dead_node_and_restarted_controller(calm: Run, tmp_path: Path) -> None:
    run = prepared(calm, tmp_path)
    job = job_of(run)
    run.reaches(15)
    slurm("scontrol", "requeue", job)
    until(lambda: restarts(job) == 1, 60, "the job was requeued")
    until(lambda: len(run.record("sft")) == 2, 120, "it runs again")
    run.reaches(25)
    node = slurm("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        until(lambda: len(run.record("sft")) == 3, 180, "it runs on the other node")
    finally:
        slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert run.record("sft")[2]["nodes"] != [node]
    with no_controller():
        pass
    is_the_calm_one(run, calm)
    assert restarts(job) == 2 and run.manifest("sft")["attempt"] == 3


def test_a_preempted_job_saves_and_comes_back(calm: Run, tmp_path: Path) -> None:
    run = prepared(calm, tmp_path)
    job = job_of(run)
    run.reaches(15)
    urgent = ["--partition=high", "--nodes=2", "--exclusive", f"--output={tmp_path}/urgent.log", "--wrap=sleep 1"]
    slurm("sbatch", *urgent)
    until(lambda: restarts(job) == 1, 90, "the job has made room")
    is_the_calm_one(run, calm)
    first = run.record("sft")[0]
    assert first["state"] == "requeue" and not first["at_limit"] and first["progress"][1] >= 15
    assert run.manifest("sft")["attempts"][0]["exit"].startswith("ended by SIGTERM")


def test_before_its_time_limit_a_job_saves_and_comes_back(calm: Run, tmp_path: Path) -> None:
    run = prepared(calm, tmp_path)
    job = job_of(run, "stages.sft.resources.time=0:02:00")
    run.reaches(15)
    held = workers(run)
    assert held
    for process in held:  # however fast the machine is, it shall not be through before the signal comes
        process.suspend()
    until(lambda: "told to save and end" in run.log("sft"), 120, "Slurm's signal has come")
    for process in held:
        process.resume()
    until(lambda: restarts(job) == 1, 60, "the job was requeued")
    is_the_calm_one(run, calm)
    first = run.record("sft")[0]
    assert first["state"] == "requeue" and first["at_limit"]
    assert f"{RUN}.sft" not in " ".join(queue())
