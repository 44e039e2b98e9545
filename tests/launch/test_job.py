"""What a process inside a job knows, which nodes are fit, and what is kept of a job: without starting one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_job import make_run

from openr1.config.cluster import ClusterSettings
from openr1.config.recipe import load_run_yaml
from openr1.errors import OutsideError, UserError
from openr1.launch.job import Job, job_folder
from openr1.launch.lead import Lead
from openr1.launch.preflight import examine, judge, write_canary
from openr1.launch.ranks import places, rank_environment
from openr1.launch.record import JobAttempt, JobRecord, load_record
from openr1.nodes.local import LocalNode
from openr1.store import Shard

STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "1",
    "SLURMD_NODENAME": "gpu08",
    "SLURM_RESTART_COUNT": "3",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_JOB_END_TIME": "1800000000",
}


def test_a_node_of_a_step_knows_its_place() -> None:
    job = Job.of(STEP)
    assert (job.name, job.index, job.names, job.restart, job.gpus) == ("gpu08", 1, ["gpu07", "gpu08"], 3, 8)
    assert job.ends_at == 1.8e9 and job.meeting == "77.1-3"
    assert job.address("lo") == "127.0.0.1"
    bare = Job.of({"SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "n1", "SLURM_NODEID": "0"})
    assert (bare.name, bare.restart, bare.gpus, bare.ends_at) == ("n1", 0, 0, None)


def test_what_is_no_step_of_one_task_a_node_is_refused() -> None:
    with pytest.raises(UserError, match="not inside a step of a Slurm job; `openr1 submit`"):
        Job.of({})
    with pytest.raises(UserError, match="16 tasks on 2 nodes; start one a node"):
        Job.of(STEP | {"SLURM_STEP_NUM_TASKS": "16"})


def test_ranks_lie_side_by_side_on_the_nodes() -> None:
    nodes = [LocalNode("a", "10.0.0.1", "ib0"), LocalNode("b", "10.0.0.2", "ib1")]
    found = [rank_environment(place, "10.0.0.1", 29) for place in places(nodes, 5)]
    shown = [(e["RANK"], e["GROUP_RANK"], e["LOCAL_RANK"], e["LOCAL_WORLD_SIZE"]) for e in found]
    assert shown == [("0", "0", "0", "2"), ("1", "0", "1", "2"), *((str(2 + i), "1", str(i), "3") for i in range(3))]
    assert {(e["MASTER_ADDR"], e["MASTER_PORT"], e["WORLD_SIZE"]) for e in found} == {("10.0.0.1", "29", "5")}
    assert [e["GLOO_SOCKET_IFNAME"] for e in found] == ["ib0", "ib0", "ib1", "ib1", "ib1"]


# ------------------------------------------------------------------------------------------------ which node is bad
SITE = ClusterSettings(name="s", kind="slurm", nodes=3, gpus_per_node=8, gpu="H100", gpu_memory_gib=79.6)


def report(**more: Any) -> dict[str, Any]:
    whole = {
        "versions": {"python": "3.11.2", "trl": "1.16.0"},
        "gpus": [["H100", 79.6]] * 8,
        "given": 8,
        "disks": {"/runs": 10**12, "/tmp": 10**12},
        "canary": "abc",
    }
    return whole | more


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"gpus": [["H100", 79.6]] * 7}, "7 GPUs answer, the job was given 8"),
        ({"gpus": []}, "0 GPUs answer, the job was given 8"),
        ({"gpus": [["H100", 79.6]] * 7 + [["H100", 39.5]]}, "a GPU of 39.5 GiB where cluster s says 79.6"),
        ({"canary": None}, "no shared file system"),
        ({"canary": "old"}, "no shared file system"),
        ({"disks": {"/runs": 10**12, "/tmp": 3 * 2**20}}, "3 MB free at /tmp, a job needs 200 MB"),
        ({"disks": {"/runs": None}}, "no disk at /runs"),
        ({"versions": {"python": "3.11.2", "trl": "1.15.0"}}, "trl 1.15.0 where the others have 1.16.0"),
        ({"versions": {"python": "3.11.2"}}, "trl None where the others have 1.16.0"),
        ({"versions": {"python": "3.11.2", "trl": "1.16.0", "vllm": "0.32"}}, "vllm 0.32 which the others have not"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_node_is_named_with_its_reason(bad: dict[str, Any], says: str, place: int) -> None:
    reports = {f"n{i}": report(**(bad if i == place else {})) for i in range(3)}
    found = judge(reports, SITE, "abc")
    assert list(found) == [f"n{place}"] and says in "; ".join(found[f"n{place}"])


def test_well_nodes_and_names_of_gpus_are_let_through() -> None:
    assert judge({"n0": report(), "n1": report()}, SITE, "abc") == {}
    no_gpu = report(gpus=[], given=0)  # a stage that needs none, on whatever node
    assert judge({"n0": no_gpu, "n1": no_gpu}, SITE, "abc") == {}
    fake = SITE.model_copy(update={"gpu": "fake"})
    assert judge({"n0": report(gpus=[]), "n1": report(gpus=[])}, fake, "abc") == {}
    two = judge({"n0": report(), "n1": report(versions={"python": "3.12"})}, SITE, "abc")
    assert list(two) == ["n1"]  # of two that differ, the one that is not the first


def test_what_a_node_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary, digest = write_canary(tmp_path)
    found = json.loads(json.dumps(examine(tmp_path, canary, 0)))
    assert judge({"n0": found}, SITE, digest) == {} and found["versions"]["openr1"]
    assert judge({"n0": examine(tmp_path, tmp_path / "nowhere", 0)}, SITE, digest)["n0"]
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc")  # a file system without any room
    assert "0 MB free at /proc" in judge({"n0": examine(tmp_path, canary, 0)}, SITE, digest)["n0"][0]


# --------------------------------------------------------------------------------------------------- the record
def test_the_record_keeps_all_attempts_and_the_nodes_to_avoid(tmp_path: Path) -> None:
    place = job_folder(tmp_path, "sft", Shard(3, 16))
    assert place == tmp_path / ".jobs" / "sft.shard-00003-of-00016" and load_record(place).latest is None
    record = JobRecord([JobAttempt("6", 0, ["a"], bad_nodes=["x"])])
    record.attempts.append(JobAttempt("7", 0, ["a", "b"], bad_nodes=["b"]))
    record.attempts.append(JobAttempt("7", 1, ["a", "c"], bad_nodes=["c"]))
    record.save(place)
    assert load_record(place) == record and (place / "exclude.txt").read_text() == "b,c"
    record.attempts.append(JobAttempt("8", 0, ["a"]))
    record.save(place)
    assert (place / "exclude.txt").read_text() == ""


class Told:
    def __init__(self, told_at: float | None) -> None:
        self.told_at = told_at

    def check(self) -> None: ...


def lead(run: Path, told_at: float, ends_at: float | None, restart: int = 0) -> Lead:
    job = Job("9", "0", restart, 0, ["n1"], "n1", 0, ends_at, None)
    return Lead(job, load_run_yaml(run), run, "sft", None, None, 0.0, Told(told_at))  # type: ignore[arg-type]


def test_who_goes_back_into_the_queue(tmp_path: Path) -> None:
    """At the time limit only an attempt that has made something, and only so many times; a preempted one always."""
    run = make_run(tmp_path, "tiny_short", "cluster.requeues=2", "cluster.signal_lead_s=30")
    error = OutsideError("ended by SIGTERM")
    idle = lead(run, told_at=1000, ends_at=1030)
    assert idle._interrupted(error) == 3 and idle.attempt.state == "failed"
    assert "nothing was completed between start and time limit" in load_record(idle.place).attempts[-1].reason
    assert lead(run, told_at=1000, ends_at=5000)._interrupted(error) == 75  # far from its limit: preempted
    for restart, code in ((1, 75), (2, 75), (3, 3)):
        busy = lead(run, 1000, 1030, restart)
        (run / "sft" / f"checkpoint-{restart}").mkdir(parents=True)
        assert busy._interrupted(error) == code
    assert "queued again 2 times, cluster.requeues allows no more" in busy.attempt.reason
    assert busy.attempt.progress == [2, 3] and busy.attempt.at_limit
