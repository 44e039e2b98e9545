"""vLLM servers on another node: replicas of `generate`, and the one that GRPO's trainers draw from.

The other node is an agent in a process of its own on loopback, the server a stand-in that speaks vLLM's protocol.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_job import FakeJob, make_run, run_here
from processes import runs, wait_until
from tiny_engine import make_model

from openr1.config.compose import compose_recipe
from openr1.config.recipe import Recipe, validate
from openr1.engines.settings import VLLMSettings
from openr1.engines.vllm_program import Place, place_replicas
from openr1.errors import OutsideError, UserError
from openr1.launch.ranks import Ranks, places, rank_environment
from openr1.launch.serving import serving, share_out
from openr1.metrics import MetricLog
from openr1.nodes.local import LocalNode
from openr1.nodes.remote import RemoteNode
from openr1.stages.base import StageContext

STAND_IN = Path(__file__).parents[1] / "engines" / "stand_in_vllm.py"
GRPO = [
    "run=r", "cluster=local", "stages.grpo.train.use_vllm=true", "stages.grpo.train.vllm_mode=server",
    "stages.grpo.resources={nodes: 2, gpus: 0}",
]  # fmt: skip
AGENT = """
import sys
from openr1.nodes.agent import Agent
from openr1.nodes.local import LocalNode
agent = Agent(LocalNode("n2", "127.0.0.1", "lo", [], "7"), "7", "secret", {})
print(agent.port, flush=True)
sys.stdin.read()
agent.close()
"""
# a rank that asks the server that its settings name for a completion, and then waits
RANK = """
import json, os, sys, time, urllib.request
from pathlib import Path
told = json.loads(os.environ["OPENR1_ROLLOUT_SERVER"])
body = {"model": "openr1", "prompt": [5], "max_tokens": 4, "seed": 0, "stop_token_ids": [0]}
request = urllib.request.Request(
    told["url"] + "/v1/completions", json.dumps(body).encode(), {"Authorization": "Bearer " + told["key"]})
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as reply:
    ids = json.load(reply)["choices"][0]["token_ids"]
print(json.dumps({"event": "message", "rank": 0, "text": f"drew {len(ids)}"}), flush=True)
Path(sys.argv[1], "drew").touch()
time.sleep(600)
"""


class Program:
    """The stand-in installed as a program, and the processes that it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "processes"
        self.folder.mkdir()
        self.path = folder / "vllm"
        self.path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        self.path.chmod(0o755)

    def processes(self, role: str) -> list[dict[str, Any]]:
        found = [json.loads(p.read_text()) for p in self.folder.glob("*.json")]
        return [p for p in found if p["role"] == role]

    def alive(self) -> list[int]:
        return [p["pid"] for role in ("api", "core") for p in self.processes(role) if runs(p["pid"])]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    made = Program(tmp_path)
    monkeypatch.setenv("STAND_IN_FOLDER", str(made.folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield made
    left = made.alive()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "servers were left behind"


@pytest.fixture
def other(program: Program) -> Iterator[RemoteNode]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", AGENT], **pipes)
    assert process.stdout is not None
    card = {"name": "n2", "address": "127.0.0.1", "port": int(process.stdout.readline()), "interface": "lo"}
    yield RemoteNode(card | {"gpus": [], "key": "secret"}, "7")
    process.communicate(timeout=60)


def grpo(program: Program, *more: str) -> Recipe:
    server = f"+stages.grpo.server={{executable: {program.path}, start_timeout_s: 60}}"
    return validate(compose_recipe("tiny_short", [*GRPO, server, *more]))


def context_of(recipe: Recipe, folder: Path) -> StageContext:
    return StageContext("r", "grpo", folder, recipe.stages["grpo"], {}, MetricLog(folder / "metrics.jsonl"))


# ---------------------------------------------------------------------------------------------- beside the trainers
def test_trainers_wait_for_the_server_and_end_with_it(
    program: Program, other: RemoteNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, here = grpo(program), LocalNode("n1", "127.0.0.1", "lo", [], "7")
    context = context_of(recipe, tmp_path)
    training, place = share_out([here, other], context.settings)
    assert training == [here] and place == Place(other, [])
    model = make_model(tmp_path / "tiny")
    ranks = Ranks(context, tmp_path)
    with serving(context, model, tmp_path, here, place) as served:
        (api,) = program.processes("api")
        words = api["arguments"]
        assert "processed_logprobs" in words and words[words.index("--dtype") + 1] == "float32"
        assert "--weight-transfer-config" not in words  # that is NCCL's, and there is no GPU
        told = json.loads(served.environment["OPENR1_ROLLOUT_SERVER"])
        assert told["url"] == f"http://127.0.0.1:{api['port']}" and told["dtype"] == "float32"
        assert 15_000 <= told["port"] < 32_000
        assert served.environment["VLLM_HOST_IP"] == "127.0.0.1" and served.gone() is None
        ranks.lacking = served.gone
        (spot,) = places(training, 1)
        environment = rank_environment(spot, "127.0.0.1", 1) | served.environment
        ranks.start([sys.executable, "-c", RANK, str(tmp_path)], environment, here)
        wait_until((tmp_path / "drew").exists)
        os.kill(api["pid"], signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(OutsideError, match=r"the vLLM server on n2 ended: .*; log: .*vllm.log; the same command"):
            ranks.wait()
        assert time.monotonic() - began < 60
        ranks.kill()
    assert program.alive() == []


@pytest.mark.parametrize("fault", ["start", "mute"])
def test_a_server_that_does_not_come_up_says_why(
    fault: str, program: Program, other: RemoteNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = grpo(program, "stages.grpo.server.start_timeout_s=3")
    place = Place(LocalNode("n1", "127.0.0.1", "lo", [], "7"), [])
    monkeypatch.setenv("STAND_IN_FAULT", fault)
    says = {"start": "n1 ended before it answered: ValueError: no room for a single block", "mute": "within 3 s"}[
        fault
    ]
    with (
        pytest.raises((UserError, OutsideError), match=says),
        serving(context_of(recipe, tmp_path), make_model(tmp_path / "tiny"), tmp_path, place.node, place),
    ):
        raise AssertionError("it began")
    assert program.alive() == []


# ---------------------------------------------------------------------------------------------------- who gets what
def test_the_server_takes_gpus_of_the_only_node_or_the_last_node(program: Program) -> None:
    one = ["stages.grpo.resources={nodes: 1, gpus: 8}", "stages.grpo.parallel.kind=ddp"]
    recipe = grpo(program, *one, "+stages.grpo.server.tensor_parallel=2")
    settings: Any = recipe.stages["grpo"]
    box = LocalNode("n1", gpus=[str(i) for i in range(8)], job="7")
    assert settings.world_size == 6
    assert share_out([box], settings) == ([box], Place(box, ["6", "7"]))
    two = ["stages.grpo.resources={nodes: 3, gpus: 8}", "stages.grpo.parallel.kind=ddp"]
    settings = grpo(program, *two, "+stages.grpo.server.data_parallel=8").stages["grpo"]
    assert settings.world_size == 16
    whole: Any = grpo(program, *two).stages["grpo"]
    plain = validate(compose_recipe("tiny_short", GRPO)).stages["grpo"]
    assert "server" not in whole.identity() and "server" not in plain.identity()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stages.grpo.train.vllm_mode=colocate"], "server: nothing asks it; set train.use_vllm=true"),
        (["stages.grpo.train.vllm_server_base_url=http://h:1"], "server: it is started here, and train.vllm_server_b"),
        (
            ["stages.grpo.resources={nodes: 1, gpus: 2}", "+stages.grpo.server.tensor_parallel=2"],
            "server: takes 2 GPUs, the node has 2 and one has to train; lower its tensor_parallel",
        ),
        (
            ["stages.grpo.resources={nodes: 2, gpus: 2}", "+stages.grpo.server.data_parallel=4"],
            "server: takes 4 GPUs, the last node has 2",
        ),
    ],
)
def test_servers_that_cannot_be_are_refused(program: Program, words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        grpo(program, *words)


def test_replicas_are_spread_over_the_nodes() -> None:
    nodes = [LocalNode(n, gpus=[f"{n}{i}" for i in range(4)], job="7") for n in ("a", "b")]

    def spread(**more: int) -> list[list[str]]:
        return [p.gpus for p in place_replicas(nodes, VLLMSettings.model_validate({"name": "vllm"} | more))]

    assert spread(data_parallel=3) == [["a0"], ["a1"], ["b0"]]
    assert spread(data_parallel=4, tensor_parallel=2) == [["a0", "a1"], ["a2", "a3"], ["b0", "b1"], ["b2", "b3"]]
    with pytest.raises(UserError, match="5 replicas of tensor_parallel 1 .* on a need 5 GPUs, it has 4"):
        spread(data_parallel=9)


@pytest.mark.slow
def test_generate_with_a_replica_on_each_of_two_nodes(program: Program, tmp_path: Path) -> None:
    words = [
        "~stages.sft", "~stages.curate", "~stages.verify", "~stages.generate.inputs.model",
        "+model@stages.generate.model=qwen3_tiny", "stages.prompts.splits.train.size=8",
        "stages.prompts.splits.problems.size=24", "stages.generate.resources={nodes: 2}",
        f"stages.generate.engine={{name: vllm, data_parallel: 2, executable: {program.path}, start_timeout_s: 90}}",
    ]  # fmt: skip
    run = make_run(tmp_path / "runs", "tiny_generate", *words)
    run_here(run, "prompts")
    job = FakeJob(run, "generate")
    assert job.wait() == [0, 0], job.said()
    assert "vLLM server 0 on fake1" in job.said() and "vLLM server 1 on fake2" in job.said()
    assert len(program.processes("api")) == 2 and job.left() == []
    counts = json.loads((run / "generate" / "manifest.json").read_text())["counts"]
    assert counts["out"] == counts["new"] > 0 and counts["failed"] == 0
