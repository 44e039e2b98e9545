"""What goes wrong when submitting, and a stage that fails: one line each, and nothing half-submitted stays queued."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from slurm_run import RUN, Run, no_controller, openr1, queue, slurm, until

pytestmark = pytest.mark.slurm
TINY = ["recipe=tiny_short", "track.mode=off"]
GPU = ["stages.sft.resources.gpus=8", "cluster.gpu_memory_gib=80"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["cluster.partition=norma"],
            "cluster.partition (or cluster.cpu_jobs.partition)=norma: no such partition here",
        ),
        (["cluster.qos=gold"], "Slurm refuses: Invalid qos specification; mend the site's file (cluster)"),
        (["cluster.account=nobody"], "Slurm refuses: Invalid account or account/partition combination"),
        (["cluster.time=48:00:00"], "a limit of 2-00:00:00 is more than partition normal allows, 1-00:00:00"),
        (["cluster.cpu_jobs.memory_gib=2000"], "a node with 8 CPUs, 2000 GiB in partition normal: none is there"),
        ([*GPU, "cluster.gpu_type=v100"], "sft: a node with 64 CPUs, 64 GiB and 8 GPUs of type v100"),
        (
            [*GPU, "cluster.gpus_per_node=16", "stages.sft.resources.gpus=16"],
            "16 GPUs of type h100 in partition normal",
        ),
    ],
)
def test_what_the_site_has_not_is_said_before_anything_is_queued(words: list[str], said: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    code, problems = run.refused(*TINY, *words)
    assert code == 1 and len(problems) == 1 and said in problems[0], problems
    assert queue() == [] and not run.path.exists()
    if words == ["cluster.time=48:00:00"]:
        done = openr1(tmp_path, "doctor", "--json", *TINY, "cluster=test", *words)
        assert done.returncode == 1 and said in done.stdout


def test_a_refusal_in_the_middle_takes_back_what_was_queued(tmp_path: Path) -> None:
    until(lambda: queue() == [], 60, "jobs of other tests are gone")
    run = Run(tmp_path)
    limit = ["sacctmgr", "-i", "modify", "qos", "normal", "set"]
    slurm(*limit, "MaxSubmitJobsPerUser=3")
    try:
        until(lambda: "3" in slurm("sacctmgr", "-n", "show", "qos", "normal", "format=MaxSubmitPU"), 10)
        code, problems = run.refused(*TINY)
    finally:
        slurm(*limit, "MaxSubmitJobsPerUser=-1")
    assert code == 1 and len(problems) == 1, problems
    assert re.match(r"\w+: Slurm refuses: ", problems[0]) and "nothing of this run was queued" in problems[0]
    until(lambda: queue() == [], 30, "what was queued is gone")
    assert {s["state"] for s in run.status().values()} == {"waiting"}


def test_a_controller_that_is_down(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with no_controller():
        code, problems = run.refused(*TINY)
    assert code == 3 and len(problems) == 1 and "Slurm does not answer" in problems[0], problems
    assert queue() == [] and not run.path.exists()


def test_a_failed_stage_cancels_its_dependants_and_status_says_why(tmp_path: Path) -> None:
    run = Run(tmp_path)
    few = [*TINY, "data.digits=[1,1]"]  # there are not so many sums of one digit
    run.submit(*few)
    run.ends(90)
    states = run.status()
    assert states["prompts"]["state"] == "failed" and "different questions are wanted" in states["prompts"]["note"]
    assert states["sft"]["state"] == "cancelled"
    assert "was not started: prompts failed" in states["sft"]["note"]
    assert "was not started" in states["evaluate_control"]["note"]
    found = run.submit(*TINY)  # mended: all of it again, and then not wanted after all
    assert len(found["jobs"]) == 10
    changed = run.refused(*TINY, "stages.sft.train.max_steps=7")
    assert changed[0] == 1 and "is at it with other settings (settings.train.max_steps: 150 -> 7)" in changed[1][0]
    done = openr1(tmp_path, "cancel", RUN, "--json")
    assert done.returncode == 0 and '"sft"' in done.stdout
    run.ends(60)
