"""A made-up run directory, written through the same doors that real stages use. The numbers mean nothing."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from openr1.manifest import Manifest
from openr1.metrics import MetricLog
from openr1.report import build_report

VERSIONS = {"python": "3.11.2", "openr1": "0.1.0", "torch": "2.13.0+cpu", "trl": "1.16.0"}
GIT = {"commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main", "dirty": False}
COMMAND = ["openr1", "run", "recipe=tiny", "run=made up"]
RECIPE: dict[str, dict[str, Any]] = {
    "data": {"kind": "prompts", "inputs": {}},
    "init": {"kind": "init", "inputs": {}},
    "sft": {"kind": "sft", "inputs": {"model": "init/model", "data": "data/train"}},
    "evaluate_before": {"kind": "evaluate", "inputs": {"model": "sft/model", "prompts": "data/test"}},
    "grpo": {"kind": "grpo", "inputs": {"model": "sft/model", "prompts": "data/train"}},
    "grpo_control": {"kind": "grpo", "inputs": {"model": "sft/model", "prompts": "data/train"}},
    "evaluate_after": {"kind": "evaluate", "inputs": {"model": "grpo/model", "prompts": "data/test"}},
}
QUESTIONS = 200
HOSTILE = "<think>1</think> </pre><script>alert(1)</script><img src=http://example.org onerror=alert(2)>`|\x1b[31m"


def manifest(stage: str, kind: str, **fields: Any) -> Manifest:
    values: dict[str, Any] = {
        "status": "done", "seconds": 12.0, "total_seconds": 12.0, "attempt": 1, "versions": VERSIONS, "git": GIT,
        "command": COMMAND, "host": "laptop", "peak_memory_mb": 812.0,
    }  # fmt: skip
    return Manifest(stage, kind, **(values | fields))


def output(path: str, kind: str, rows: int | None = None) -> dict[str, Any]:
    return {"path": path, "kind": kind, "hash": (path + kind).encode().hex().ljust(64, "0")[:64], "rows": rows}


def grpo_curves(folder: Path, steps: int) -> None:
    log, rng = MetricLog(folder / "metrics.jsonl"), random.Random(1)
    for step in range(1, steps + 1):
        rise = 1 / (1 + math.exp(-(step - steps / 2) / (steps / 8)))
        accuracy = 0.2 + 0.45 * rise + rng.gauss(0, 0.03)
        values = {
            "loss": rng.gauss(0, 0.02), "grad_norm": 0.5 + abs(rng.gauss(0, 0.1)), "learning_rate": 5e-5,
            "entropy": 0.9 - 0.5 * rise + rng.gauss(0, 0.02), "reward": accuracy + 0.2 * (0.8 + 0.2 * rise),
            "reward/accuracy": accuracy, "reward/format": 0.8 + 0.2 * rise, "reward_std": 0.4 - 0.1 * rise,
            "zero_variance_groups": min(1, max(0, 0.2 + 0.3 * rise + rng.gauss(0, 0.06))), "masked": 0.0,
            "completion_tokens": 21 + 11 * rise + rng.gauss(0, 0.5), "truncated": 0.05 * (1 - rise), "kl": 0.0,
            "seconds/generate": 1.2 + rng.gauss(0, 0.05), "seconds/grade": 0.02, "seconds/train": 0.9,
            "tokens": 4096 * step,
        }  # fmt: skip
        log.log(step, values)


def sft_curves(folder: Path, steps: int) -> None:
    log = MetricLog(folder / "metrics.jsonl")
    for step in range(1, steps + 1):
        values = {"loss": 3 * math.exp(-step / 40) + 0.4, "grad_norm": 1 + 1 / step, "learning_rate": 2e-5 * step}
        log.log(step, values | ({"accuracy": min(0.23, 0.23 * step / steps)} if step % 25 == 0 else {}))


def evaluate(folder: Path, stage: str, model: str, rate: float, tokens: float, seed: int) -> None:
    rng, rows = random.Random(seed), []
    for q in range(QUESTIONS):
        a, b = 100 + q, 900 - q
        for index in range(-1, 4):
            right = rng.random() < rate
            answer = a + b if right else a + b + 10
            text = f"<think>\n{a % 10}+{b % 10}+0={(a + b) % 100};\n</think>\n<answer>\\boxed{{{answer}}}</answer>"
            if q == 0 and index == -1:
                text = HOSTILE
            if q == 1 and index == -1:
                text = "<think>\n" + "wait, let me check that again.\n" * 60 + "</think>\n" + text
            rows.append(
                {
                    "prompt_id": f"{q:04x}", "question": f"What is {a} + {b}?", "gold": str(a + b),
                    "mode": "greedy" if index < 0 else "sampled", "sample_index": max(index, 0), "completion": text,
                    "finish_reason": "stop", "completion_tokens": 30, "status": "correct" if right else "wrong",
                    "score": float(right), "extracted": str(answer), "decided_by": "normalised string",
                }
            )  # fmt: skip
    target = folder / stage / "samples"
    target.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), target / "part-00000.parquet")
    half = 1.96 * math.sqrt(rate * (1 - rate) / QUESTIONS)
    results = {
        "model": model,
        "greedy": {"accuracy": rate, "low": rate - half, "high": rate + half, "n": QUESTIONS},
        "sampled": {"accuracy": rate - 0.03, "low": rate - 0.08, "high": rate + 0.02, "n": QUESTIONS, "k": 4,
                    "low_resampling": rate - 0.05, "high_resampling": rate - 0.01},
        "pass_at": {"1": rate - 0.03, "4": min(1, rate + 0.2)}, "cons": rate + 0.04, "format": 0.97,
        "response_tokens": tokens, "truncated": 0.01, "no_answer": 0.02, "tokens": 31000, "seconds": 9.5,
        "flops": 5.0e10, "by_status": {"correct": 40, "wrong": 160}, "verifier": "math 3",
        "prompt_hash": "ab12cd34ef56",
    }  # fmt: skip
    manifest(stage, "evaluate", results=results, tokens={"generated": 31000}, phases={"generate": 8.0, "grade": 1.0},
             outputs={"samples": output("samples", "verdicts", 5 * QUESTIONS)}).save(folder / stage)  # fmt: skip


def make_run(folder: Path, recipe: dict[str, Any] | None = None) -> Path:
    """A finished run of RECIPE in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"recipe": "tiny", "run": "made-up", "seed": 7, "stages": recipe or RECIPE}
    (folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    outputs = {"train": output("train", "prompts", 3950), "test": output("test", "prompts", QUESTIONS)}
    counts = {"in": 4200, "out": 4150, "dropped": {"duplicate question": 38, "in a held-out split": 12}}
    manifest("data", "prompts", counts=counts, outputs=outputs, seconds=1.4, total_seconds=1.4).save(folder / "data")
    manifest("init", "init", outputs={"model": output("model", "model")}, seconds=0.6, total_seconds=0.6,
             results={"parameters": 812_032}).save(folder / "init")  # fmt: skip
    sft_curves(folder / "sft", 120)
    manifest("sft", "sft", outputs={"model": output("model", "model")}, tokens={"trained": 420_000}, seconds=40.0,
             total_seconds=40.0, phases={"train": 36.0},
             results={"steps": 120, "parameters": 812_032, "flops": 2.0e12, "stopped": "accuracy 0.23 reached"},
             ).save(folder / "sft")  # fmt: skip
    grpo_curves(folder / "grpo", 80)
    manifest("grpo", "grpo", outputs={"model": output("model", "model")}, seconds=90.0, total_seconds=170.0, attempt=2,
             tokens={"trained": 260_000, "generated": 250_000, "prompt": 90_000},
             phases={"generate": 96.0, "grade": 1.6, "train": 62.0},
             results={"steps": 80, "parameters": 812_032, "flops": 1.7e12, "stopped": "all steps done"},
             ).save(folder / "grpo")  # fmt: skip
    grpo_curves(folder / "grpo_control", 40)
    manifest("grpo_control", "grpo", results={"steps": 40, "parameters": 812_032, "flops": 8.0e11}, seconds=44.0,
             total_seconds=44.0, phases={"generate": 20.0, "train": 21.0}, tokens={"trained": 130_000},
             outputs={"model": output("model", "model")}).save(folder / "grpo_control")  # fmt: skip
    evaluate(folder, "evaluate_before", "start", 0.22, 21.0, 3)
    evaluate(folder, "evaluate_after", "grpo", 0.64, 31.5, 4)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run with its report, to be read only."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "made-up")
    build_report(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of one's own, to be changed; without curves, which take most of the drawing."""
    folder = make_run(tmp_path / "made-up")
    for log in folder.glob("*/metrics.jsonl"):
        log.unlink()
    return folder
