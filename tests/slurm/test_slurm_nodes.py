"""What runs inside a job of two nodes: ranks, a server beside the trainer, bad nodes; and that nothing outlives it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from slurm_run import ROOT, RUN, SFT, Run, queue, slurm, until

pytestmark = pytest.mark.slurm

TWO = (
    "stages.sft.resources={nodes: 2, gpus: 1}", "stages.sft.parallel.kind=ddp",
    "stages.sft.train.per_device_train_batch_size=16", "cluster.gpu_memory_gib=80",
)  # fmt: skip
ONE = tuple(word for word in SFT if not word.startswith("stages=["))
# what a test changes in single processes of a job, by way of Python's own start
IN_PLACE_OF_GRPO = """
import os, sys, types
if "openr1.launch.rank" in sys.orig_argv:
    import json, time, urllib.request
    def run(ctx):
        from openr1.log import Progress
        told = json.loads(os.environ["OPENR1_ROLLOUT_SERVER"])
        url, key = told["url"] + "/v1/completions", {"Authorization": "Bearer " + told["key"]}
        body = {"model": "openr1", "prompt": [5], "max_tokens": 4, "seed": 0, "stop_token_ids": [0]}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with Progress("grpo", 10**6) as bar:
            while True:
                with opener.open(urllib.request.Request(url, json.dumps(body).encode(), key)) as reply:
                    json.load(reply)["choices"][0]["token_ids"]
                ctx.metrics.log(bar.done + 1, {"reward": 1.0})
                bar.advance()
                time.sleep(0.2)
    sys.modules["openr1.stages.grpo"] = types.ModuleType("openr1.stages.grpo")
    sys.modules["openr1.stages.grpo"].run = run
"""
FULL_DISK_ON_NODE1 = """
import os, shutil, sys
if "openr1.launch.node" in sys.orig_argv and os.environ.get("SLURMD_NODENAME") == "node1":
    real = shutil.disk_usage
    shutil.disk_usage = lambda place: real(place)._replace(free=0)
"""
NO_REDUCE_ON_NODE2 = """
import os, sys
if "openr1.launch.reduce" in sys.orig_argv and os.environ.get("SLURMD_NODENAME") == "node2":
    sys.exit("no network here")
"""


def prepared(calm: Run, folder: Path, *stages: str) -> Run:
    """A run whose first stages are made already."""
    run = Run(folder)
    run.path.mkdir(parents=True)
    shutil.copy(calm.path / "run.yaml", run.path)
    for stage in stages:
        shutil.copytree(calm.path / stage, run.path / stage)
    return run


def changed(folder: Path, code: str) -> str:
    """The word of `submit` that has every Python of a job run `code` first."""
    place = folder / "site"
    place.mkdir()
    (place / "sitecustomize.py").write_text(code)
    return f"+cluster.environment.PYTHONPATH={place}"


def of_job(run: Run, *modules: str) -> list[psutil.Process]:
    """The processes of a run's jobs that run one of these modules of openr1.launch."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(run.path) in words and any(f"openr1.launch.{module}" in words for module in modules):
            found.append(process)
    return found


def idle() -> bool:
    return slurm("sinfo", "--noheader", "--partition=normal", "--states=idle", "--format=%D").strip() == "2"


def failed(run: Run, stage: str, since: float) -> dict[str, Any]:
    """The stage's status once its job has failed and its nodes are free, within 60 s."""
    until(lambda: not queue() and idle(), 60, "the job has ended and its nodes are free")
    assert time.monotonic() - since < 60
    status = run.status()[stage]
    assert status["state"] == "failed", status
    return status


def test_two_nodes_train_as_one_process_does(calm: Run, tmp_path: Path) -> None:
    run = prepared(calm, tmp_path, "prompts")
    run.submit(*SFT, *TWO)
    run.reaches(2)
    told = [process.environ() for process in of_job(run, "rank")]
    run.ends()
    names = ("RANK", "WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK", "MASTER_ADDR", "SLURMD_NODENAME", "SLURM_STEP_NODELIST")
    shown = sorted(tuple(e[name] for name in names) for e in told)
    assert shown == [(str(i), "2", str(i), "0", "127.0.0.1", f"node{i + 1}", "node[1-2]") for i in range(2)]
    assert len({e["MASTER_PORT"] for e in told}) == 1
    assert run.status()["sft"]["state"] == "done", run.log("sft")
    assert run.manifest("sft")["results"]["parallel"]["nodes"] == ["node1", "node2"]
    # sums in another order: the last digits differ, and training makes more of it with every step
    losses = [[row["loss"] for row in r.rows("sft")][:10] for r in (run, calm)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_killed_rank_ends_the_job_with_its_reason(calm: Run, tmp_path: Path) -> None:
    run = prepared(calm, tmp_path, "prompts")
    run.submit(*SFT, *TWO, "stages.sft.train.max_steps=5000")
    run.reaches(2)
    victim = next(p for p in of_job(run, "rank") if p.environ()["SLURMD_NODENAME"] == "node2")
    victim.kill()
    status = failed(run, "sft", time.monotonic())
    assert "rank 1 on node2 was killed by signal 9" in status["note"]
    assert of_job(run, "rank", "worker", "node") == []


def test_a_killed_server_ends_the_trainer_on_the_other_node(calm: Run, tmp_path: Path) -> None:
    """The server is a stand-in, and so is the trainer: it takes no weights."""
    run = prepared(calm, tmp_path, "prompts", "sft")
    program, notes = tmp_path / "vllm", tmp_path / "processes"
    notes.mkdir()
    stand_in = ROOT / "tests" / "engines" / "stand_in_vllm.py"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" "$@"\n')
    program.chmod(0o755)
    word = changed(tmp_path, IN_PLACE_OF_GRPO)
    (tmp_path / "site" / "vllm.py").touch()  # asked for by those who train with vLLM, used by none here
    run.submit(
        *ONE, "stages=[grpo]", "cluster.gpu_memory_gib=80", "stages.grpo.inputs.data=prompts/rl",
        "stages.grpo.resources={nodes: 2, gpus: 1}",
        "stages.grpo.train.use_vllm=true", "stages.grpo.train.vllm_mode=server",
        f"+stages.grpo.server={{executable: {program}, start_timeout_s: 120}}",
        f"+cluster.environment.STAND_IN_FOLDER={notes}", word,
    )  # fmt: skip
    run.reaches(2, "grpo")
    servers = [json.loads(path.read_text()) for path in notes.glob("*.json")]
    (api,) = (s["pid"] for s in servers if s["role"] == "api")
    (trainer,) = of_job(run, "rank")
    nodes = psutil.Process(api).environ()["SLURMD_NODENAME"], trainer.environ()["SLURMD_NODENAME"]
    assert nodes == ("node2", "node1")
    os.kill(api, signal.SIGKILL)
    status = failed(run, "grpo", time.monotonic())
    assert "the vLLM server on node2 ended" in status["note"]
    assert not any(psutil.pid_exists(s["pid"]) for s in servers) and not trainer.is_running()


def test_a_bad_node_is_left_out_of_the_next_attempt(calm: Run, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.submit(*ONE, "stages=[prompts]", changed(tmp_path, FULL_DISK_ON_NODE1))
    run.ends(120)
    first, second = run.record("prompts")
    assert first["bad_nodes"] == ["node1"] == first["nodes"] and "node1: 0 MB free" in first["reason"]
    assert second["nodes"] == ["node2"] and second["state"] == "done" and second["job"] == first["job"]
    assert run.status()["prompts"]["state"] == "done"


def test_a_node_that_cannot_reduce_is_named_and_excluded(calm: Run, tmp_path: Path) -> None:
    run = prepared(calm, tmp_path, "prompts")
    (job,) = run.submit(*SFT, *TWO, changed(tmp_path, NO_REDUCE_ON_NODE2))["jobs"]
    until(lambda: "ExcNodeList=node2" in slurm("scontrol", "show", "job", job["job"]), 120, "node2 is excluded")
    (attempt,) = run.record("sft")
    assert attempt["bad_nodes"] == ["node2"] and "all-reduce does not start" in attempt["reason"]
    slurm("scancel", job["job"])
    assert RUN not in " ".join(line for line in queue() if "COMPLETING" not in line)
