"""Jobs on two and more nodes, as real processes on loopback: whatever is killed or broken, all ends, and says why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_job import FakeJob, kill_hard, make_run, run_here

pytestmark = pytest.mark.slow

TRAIN = [
    "stages.sft.resources={nodes: 2, gpus: 1}", "stages.sft.parallel.kind=ddp",
    "stages.sft.train.per_device_train_batch_size=16",
]  # fmt: skip
STEPS = ["stages.sft.train.max_steps=40", "stages.sft.train.save_steps=10"]
FOREVER = ["stages.sft.train.max_steps=100000", "stages.sft.train.save_steps=50"]
STRAY = """
import os, subprocess
if os.environ.get("RANK") == "1":
    subprocess.Popen(["sleep", "600"], start_new_session=True)
"""


@pytest.fixture
def jobs() -> Iterator[list[FakeJob]]:
    """Jobs of a test; none of their processes may be left."""
    made: list[FakeJob] = []
    yield made
    for job in made:
        job.kill()
    left = [pid for job in made for pid in job.left()]
    for pid in left:
        kill_hard(pid)
    assert not left, "processes were left behind"


def wait_for(what: Callable[[], Any], job: FakeJob, seconds: float = 240) -> None:
    limit = time.monotonic() + seconds
    while not what():
        ended = [p.poll() for p in job.processes]
        assert time.monotonic() < limit and ended == [None] * len(ended), f"{ended} {job.said()}"
        time.sleep(0.05)


def steps(run: Path) -> int:
    path = run / "sft" / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "sft" / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> str:
    return hashlib.sha256((run / "sft" / "model" / "model.safetensors").read_bytes()).hexdigest()


def rank_pid(job: FakeJob, rank: int) -> int:
    """The process of a rank, found by its environment."""
    for pid in job.left():
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"openr1.launch.rank" in words and f"RANK={rank}".encode() in environment:
            return pid
    raise AssertionError(f"no rank {rank}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose prompts are made, to start from."""
    run = make_run(tmp_path_factory.mktemp("prepared"), "tiny_short")
    run_here(run, "prompts")
    return run


def copied(prepared: Path, folder: Path, *words: str) -> Path:
    shutil.copytree(prepared, folder / "r")
    return make_run(folder, "tiny_short", *words)


# --------------------------------------------------------------------------------------------------- bad nodes
def smi(folder: Path, gpus: int, mib: int) -> dict[str, str]:
    """A PATH whose nvidia-smi lists so many GPUs."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    lines = [f"echo '{i}, GPU-{i}, NVIDIA H100 80GB HBM3, {mib} MiB'\n" for i in range(gpus)]
    program.write_text("#!/bin/sh\n" + "".join(lines))
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


SMALL_DISK = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$TMPDIR" && exec "$@"', "sh"]


def can_mount() -> bool:
    """Whether a process here may have a file system of its own."""
    words = ["unshare", "-rm", "true"]
    return shutil.which("unshare") is not None and subprocess.run(words, check=False).returncode == 0


def test_every_bad_node_is_named_and_excluded(prepared: Path, tmp_path: Path, jobs: list[FakeJob]) -> None:
    run = copied(prepared, tmp_path, "cluster=slurm_h100_8", "cluster.network_interface=lo")
    other = tmp_path / "packages" / "trl-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 9.9\n")
    own = {
        1: smi(tmp_path / "seven", 7, 81559),
        2: smi(tmp_path / "small", 8, 40960),
        3: {"PYTHONPATH": str(other.parent)},
        4: {"TMPDIR": str(tmp_path / "full")},
    }
    (tmp_path / "full").mkdir()
    more = {"SLURM_GPUS_ON_NODE": "8", **smi(tmp_path / "well", 8, 81559)}
    full = can_mount()
    jobs.append(FakeJob(run, "sft", nodes=6, more=more, own=own, within={4: SMALL_DISK} if full else {}))
    assert jobs[0].wait(120) == [75] + [0] * 5, jobs[0].said()
    bad = ["fake2", "fake3", "fake4"] + ["fake5"] * full
    assert jobs[0].attempt["bad_nodes"] == bad and jobs[0].attempt["state"] == "requeue"
    assert jobs[0].excluded == ",".join(bad)
    for says in (
        "fake2: 7 GPUs answer, the job was given 8",
        "fake3: a GPU of 40.0 GiB where cluster slurm_h100_8 says 79.6",
        "fake4: trl 9.9 where the others have",
        *([f"fake5: 1 MB free at {tmp_path / 'full'}, a job needs 200 MB"] if full else []),
    ):
        assert says in jobs[0].attempt["reason"] and says in jobs[0].said(0)
    assert not (run / "sft" / "manifest.json").exists()


def test_a_node_that_does_not_share_the_run_is_named(prepared: Path, tmp_path: Path, jobs: list[FakeJob]) -> None:
    run, elsewhere = copied(prepared, tmp_path / "a"), copied(prepared, tmp_path / "b")
    jobs.append(FakeJob(run, "sft", runs={1: elsewhere}, words=["--preflight-s", "6"]))
    codes = jobs[0].wait(120)
    assert codes == [75, 3] and jobs[0].excluded == "fake2"
    assert "fake2: has not written to" in jobs[0].attempt["reason"]
    assert "fake2: fake1 has not asked for it" in jobs[0].said(1) and "no shared file system" in jobs[0].said(1)


def test_a_node_that_cannot_reduce_is_named(prepared: Path, tmp_path: Path, jobs: list[FakeJob]) -> None:
    run = copied(prepared, tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise OSError('libcuda.so.1: cannot open shared object file')\n")
    jobs.append(FakeJob(run, "sft", own={1: {"PYTHONPATH": str(tmp_path / "broken")}}))
    leader, member = jobs[0].processes
    assert leader.wait(120) == 75, jobs[0].said()
    assert member.wait(1) == 0  # before the leader: srun has no other code to report, and nobody left to kill
    assert jobs[0].attempt["reason"].startswith("fake2: all-reduce: OSError: libcuda.so.1")
    again = FakeJob(run, "sft", restart=1, own={1: {"PYTHONPATH": str(tmp_path / "broken")}})
    jobs.append(again)
    assert again.wait(120) == [75, 0] and again.excluded == "fake2"


# ------------------------------------------------------------------------------------------------------- ends
@pytest.mark.parametrize("victim", ["rank", "member", "leader", "worker"])
def test_whatever_is_killed_the_job_ends(victim: str, prepared: Path, tmp_path: Path, jobs: list[FakeJob]) -> None:
    """Within seconds, on every node, with the reason; also what has left for a session of its own."""
    run = copied(prepared, tmp_path, *TRAIN, *FOREVER)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STRAY)
    job = FakeJob(run, "sft", own={1: {"PYTHONPATH": str(tmp_path / "site")}})
    jobs.append(job)
    wait_for(lambda: steps(run) > 3, job)
    if victim == "rank":
        os.kill(rank_pid(job, 1), signal.SIGKILL)
    elif victim == "worker":
        os.kill(next(p for p in job.left() if "launch.worker" in Path(f"/proc/{p}/cmdline").read_text()), 9)
    else:
        job.processes[victim == "member"].kill()
    began = time.monotonic()
    codes = job.wait(60)
    assert time.monotonic() - began < 60
    if victim == "leader":
        assert codes == [-9, 3] and "fake2: fake1 is gone; what ran here is ended" in job.said(1)
        assert job.attempt["state"] == "running"  # Slurm knows more
        return
    assert codes == [3, 0] if victim != "member" else codes == [3, -9]
    says = {
        "rank": "sft: rank 1 on fake2 was killed by signal 9",
        "member": "fake2 is gone: its node died, or openr1 was killed there",
        "worker": "sft: its process was killed by signal 9",
    }[victim]
    assert job.attempt["state"] == "failed" and job.attempt["reason"].startswith(says), job.attempt
    if victim == "member":  # its cgroup is Slurm's to empty; ranks die with their agent
        wait_for_none = time.monotonic() + 30
        while any("launch.rank" in Path(f"/proc/{p}/cmdline").read_text() for p in job.left()):
            assert time.monotonic() < wait_for_none
            time.sleep(0.1)
        for pid in job.left():
            kill_hard(pid)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_told_to_leave_goes_on_to_the_same_bytes(
    number: signal.Signals, prepared: Path, tmp_path: Path, jobs: list[FakeJob]
) -> None:
    calm, told = (
        copied(prepared, tmp_path / "calm", *TRAIN, *STEPS),
        copied(prepared, tmp_path / "told", *TRAIN, *STEPS),
    )
    jobs.append(FakeJob(calm, "sft", job=1))
    assert jobs[0].wait() == [0, 0], jobs[0].said()
    job = FakeJob(told, "sft", job=2, ends_in=60)
    jobs.append(job)
    wait_for(lambda: steps(told) >= 3, job)
    job.signal(number)
    assert job.wait(60) == [75, 0], job.said()
    made = job.attempt["progress"][1]
    assert job.attempt["state"] == "requeue" and 3 <= made < 40 and made % 10
    assert json.loads((told / "sft" / "manifest.json").read_text())["status"] == "running"
    jobs.append(FakeJob(told, "sft", job=2, restart=1))
    assert jobs[-1].wait() == [0, 0], jobs[-1].said()
    assert f"goes on from checkpoint-{made}" in jobs[-1].said()
    assert losses(told) == losses(calm) and weights(told) == weights(calm)
    manifest = json.loads((told / "sft" / "manifest.json").read_text())
    assert manifest["results"]["parallel"]["nodes"] == ["fake1", "fake2"] and manifest["attempt"] == 2


def test_two_nodes_have_the_losses_of_one_process(prepared: Path, tmp_path: Path, jobs: list[FakeJob]) -> None:
    one, two = copied(prepared, tmp_path / "one", *STEPS), copied(prepared, tmp_path / "two", *TRAIN, *STEPS)
    for run, nodes in ((one, 1), (two, 2)):
        jobs.append(FakeJob(run, "sft", nodes=nodes))
        assert jobs[-1].wait() == [0] * nodes, jobs[-1].said()
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    kept = [json.loads((run / "sft" / "manifest.json").read_text()) for run in (one, two)]
    assert kept[0]["key"] == kept[1]["key"]
