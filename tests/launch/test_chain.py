"""What a second submit queues, given what is in Slurm's queue: nothing twice, nothing that waits in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openr1.config.recipe import Recipe, save_run_yaml
from openr1.errors import UserError
from openr1.launch.plan import make_plan
from openr1.launch.shards import lock_path
from openr1.launch.slurm.chain import Chain, make_chain
from openr1.launch.slurm.commands import Queued
from openr1.launch.slurm.render import comment
from openr1.launch.words import compose
from openr1.store import FileLock

STAGES = ["prompts", "sft", "generate", "verify", "curate"]


def recipe(*words: str) -> Recipe:
    return compose(["recipe=tiny_generate", "cluster=test", "run=r", *words])[0]


def queued(stage: str, job: str, state: str = "PENDING", reason: str = "Dependency", **more: Any) -> Queued:
    values: dict[str, Any] = {"task": None, "nodes": "", "part": "stage", **more}
    return Queued(job=job, state=state, reason=reason, stage=stage, **values)


def chain(folder: Path, there: list[Queued], made: Recipe | None = None, rerun: tuple[str, ...] = ()) -> Chain:
    made = made or recipe()
    return make_chain(made, folder, make_plan(made, folder, [], rerun), rerun, there)


def test_a_new_run_is_queued_whole_in_the_order_of_its_graph(tmp_path: Path) -> None:
    found = chain(tmp_path, [])
    assert [job.stage for job in found.jobs] == STAGES
    assert {job.stage: job.after for job in found.jobs}["curate"] == ("prompts", "generate", "verify")


def test_what_is_queued_is_left_there_and_waited_for(tmp_path: Path) -> None:
    there = [queued("prompts", "7", "RUNNING", "None"), queued("sft", "8")]
    found = chain(tmp_path, there)
    assert set(found.queued) == {"prompts", "sft"} and found.doomed == []
    assert [job.stage for job in found.jobs] == ["generate", "verify", "curate"]
    assert found.jobs[0].after == ("prompts", "sft") or set(found.jobs[0].after) == {"prompts", "sft"}


def test_a_job_that_waits_for_one_that_is_gone_is_submitted_anew(tmp_path: Path) -> None:
    there = [queued("prompts", "7", "RUNNING", "None"), queued("verify", "10"), queued("curate", "11")]
    found = chain(tmp_path, there)  # sft (8) and generate (9) have failed a moment ago
    assert [q.job for q in found.doomed] == ["10", "11"]
    assert [job.stage for job in found.jobs] == ["sft", "generate", "verify", "curate"]


def test_jobs_that_have_ended_are_waited_for_and_no_part_of_the_chain(tmp_path: Path) -> None:
    there = [queued("sft", "8", "COMPLETING", "None"), queued("generate", "9", reason="DependencyNeverSatisfied")]
    found = chain(tmp_path, there)
    assert [job.stage for job in found.jobs] == STAGES and found.queued == {}
    assert [q.job for q in found.ending["sft"]] == ["8"] and [q.job for q in found.ending["generate"]] == ["9"]


def test_what_is_at_work_cannot_be_changed_or_run_again(tmp_path: Path) -> None:
    save_run_yaml(recipe(), tmp_path)
    there = [queued("sft", "8", "RUNNING", "None")]
    with pytest.raises(UserError, match=r"sft: job 8 is at it with other settings \(.*max_steps.*; `openr1 cancel r`"):
        chain(tmp_path, there, recipe("stages.sft.train.max_steps=7"))
    with pytest.raises(UserError, match="sft: rerun asks for it anew, and job 8 is at it"):
        chain(tmp_path, there, rerun=("sft",))
    elsewhere = chain(tmp_path, there, recipe("stages.generate.k=3"))
    assert set(elsewhere.queued) == {"sft"}


def test_a_stage_that_runs_without_slurm_is_not_submitted(tmp_path: Path) -> None:
    with FileLock(lock_path(tmp_path, "sft"), "sft"), pytest.raises(UserError, match="sft: is in use by process"):
        chain(tmp_path, [])


def test_shards_that_are_at_work_are_the_stage(tmp_path: Path) -> None:
    sharded = recipe("stages.generate.resources.shards=4")
    parts = [(job.stage, job.part) for job in chain(tmp_path, [], sharded).jobs]
    assert ("generate", "shards") in parts and ("generate", "merge") in parts
    there = [queued("generate", "9", "RUNNING", "None", part="shards", task=2)]
    assert [q.id for q in chain(tmp_path, there, sharded).queued["generate"]] == ["9_2"]


def test_a_job_is_found_again_by_its_comment(tmp_path: Path) -> None:
    from openr1.launch.slurm.commands import COMMENT

    folder = tmp_path / "with|pipe and: colon"
    said = COMMENT.fullmatch(comment(folder, "sft", "stage"))
    assert said is not None and said["folder"] == str(folder) and said["stage"] == "sft"
