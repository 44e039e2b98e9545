"""GRPO whose rollouts a real vLLM draws, on a CPU: in the trainer's process and on a server. `make test-vllm`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from openr1.metrics import read_metrics
from openr1.models.scratch import init_model
from openr1.models.settings import ModelSettings, TokenizerSettings
from openr1.train import rollouts

pytestmark = pytest.mark.vllm
SCRIPT = Path(__file__).with_name("colocated.py")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 whose LM head is the embedding, as of most small models: what goes stale where weights are copied."""
    settings = ModelSettings(
        source="scratch", architecture="qwen3", layers=2, hidden=64, ffn=128, heads=2, kv_heads=1, context=96,
        dtype="float32", tie_embeddings=True, rope_theta=10000.0,
        tokenizer=TokenizerSettings(kind="char", words=["<think>", "</think>"]),
    )  # fmt: skip
    return init_model(settings, 0, tmp_path_factory.mktemp("models") / "tied")


def start(model: Path, work: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(model), str(work), *(words or ("0",))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def problem(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate()
    assert process.returncode == 1, err[-3000:]
    return err.splitlines()[-1]


def texts(work: Path) -> dict[tuple[int, str, int], str]:
    rows = rollouts.read(work).to_pylist()
    found = {(r["step"], r["prompt_id"], r["sample_index"]): r["completion"] for r in rows}
    assert len(found) == len(rows)
    return found


def alike(ours: dict[Any, str], theirs: dict[Any, str], steps: Sequence[int]) -> float:
    """The share of equal texts in `steps`, for the same prompts and samples."""
    ours, theirs = ({k: v for k, v in t.items() if k[0] in steps} for t in (ours, theirs))
    assert set(ours) == set(theirs) and ours
    return sum(ours[k] == theirs[k] for k in ours) / len(ours)


@pytest.fixture(scope="module")
def whole_and_resumed(tied: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """One training of six steps left alone, one killed after the third and started again from the second."""
    folder = tmp_path_factory.mktemp("runs")
    whole = start(tied, folder / "whole")
    killed = start(tied, folder / "killed", "3")
    killed.communicate()
    assert killed.returncode == 9
    result(start(tied, folder / "killed"))
    return folder / "whole", folder / "killed", result(whole)


def test_the_samplers_probabilities_are_the_trainers_at_every_step(whole_and_resumed: Any) -> None:
    whole, _, found = whole_and_resumed
    lines = read_metrics(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["grad_norm"] > 0.01 for line in lines)  # so the weights move
    assert all(line["logprob_gap"] < 1e-4 and line["logprob_tail"] < 1e-3 for line in lines)
    assert all(0.99 < line["ratio_min"] <= line["ratio_max"] < 1.01 for line in lines)
    assert found["guards"]["logprob_gap"]["measured"] == 6 and found["guards"]["logprob_gap"]["warned"] == 0
    assert found["parallel"] | {"backend": None} == {
        "kind": "single", "processes": 1, "device": "cpu", "backend": None, "rollouts": "vllm",
        "vllm_mode": "colocate", "vllm_dtype": "float32", "importance_sampling": "sequence_mask",
    }  # fmt: skip


def test_completions_end_where_grading_says(whole_and_resumed: Any) -> None:
    whole, _, found = whole_and_resumed
    rows = rollouts.read(whole).to_pylist()
    assert len(rows) == 6 * 16 and {r["finish_reason"] for r in rows} == {"stop", "length"}
    assert all(r["completion_tokens"] == 12 for r in rows if r["finish_reason"] == "length")
    assert all(1 <= r["completion_tokens"] <= 12 for r in rows)
    assert len({r["completion"] for r in rows}) > 80  # every row is a draw of its own
    assert found["tokens"]["generated"] == sum(r["completion_tokens"] for r in rows)
    assert found["tokens"]["prompt"] == sum(r["prompt_tokens"] for r in rows)


def test_a_killed_training_goes_on_with_the_same_prompts_and_seeds(whole_and_resumed: Any) -> None:
    """What is exact: prompts, seeds, steps. The last bits of the logits may differ, and then a text does."""
    whole, killed, _ = whole_and_resumed
    assert alike(texts(killed), texts(whole), [1, 2, 3]) > 0.9
    assert set(texts(killed)) == set(texts(whole))
    steps = [read_metrics(folder / "metrics.jsonl") for folder in (killed, whole)]
    assert [line["step"] for line in steps[0]] == [line["step"] for line in steps[1]]


def test_a_stale_head_is_seen_and_stopped_by_the_guard(tied: Path, tmp_path: Path) -> None:
    """The trap: vLLM's CPU build with oneDNN. Where only the head keeps a copy it is silent; all of it is refused."""
    bound = 'guards={"logprob_gap": {"stop": 0.2, "patience": 2}}'
    stale = start(tied, tmp_path / "stale", "0", "stale=true", bound)
    refused = start(tied, tmp_path / "refused", VLLM_PLUGINS="none")
    line = problem(stale)
    assert "guard logprob_gap stopped training at step" in line and "see that the weights reach vLLM" in line
    gaps = [row["logprob_gap"] for row in read_metrics(tmp_path / "stale/metrics.jsonl")]
    assert gaps[0] < 1e-4 and gaps[-1] >= 0.2  # equal before the first step
    assert "make setup-vllm installs the plugin" in problem(refused)


def test_a_server_draws_what_the_engine_beside_the_trainer_draws(
    whole_and_resumed: Any, tied: Path, tmp_path: Path
) -> None:
    """A server beside the trainer; weights reach it through a file, where there is no GPU."""
    found = result(start(tied, tmp_path / "served", "0", 'vllm_mode="server"', "max_steps=3"))
    assert found["parallel"]["vllm_mode"] == "server" and found["parallel"]["weights_by"] == "file"
    lines = read_metrics(tmp_path / "served/metrics.jsonl")
    assert all(line["logprob_gap"] < 1e-4 and line["grad_norm"] > 0.01 for line in lines) and len(lines) == 3
    assert alike(texts(tmp_path / "served"), texts(whole_and_resumed[0]), [1, 2]) > 0.9
    assert not (tmp_path / "served/.weights").exists()
    assert "vllm serve" in (tmp_path / "served/logs/vllm.log").read_text()
