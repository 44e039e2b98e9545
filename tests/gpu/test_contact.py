"""The checks of `make test-gpu`: on GPUs where there are some, and the same ones on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from contact import CHECKS, Failed, Left, Outcome, Site, judge_resume, judge_training, judge_vllm, report

SCRIPT = Path(__file__).with_name("contact.py")
CPU, GPU = Site("cpu", 0), Site("gpu", 2)


def contact(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_without_a_gpu_it_ends_with_one_line() -> None:
    done = contact(CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "test-gpu: no GPU here (nvidia-smi lists none); run it on a machine with 1 to 8"
    ]


def left(steps: int = 4, gap: float = 1e-7, attempts: int = 1, **ran: Any) -> Left:
    row = {"loss": 0.1, "grad_norm": 1.0, "logprob_gap": gap, "seconds/step": 1.0, "seconds/generate": 0.5}
    how = {"kind": "single", "processes": 1, "device": "cpu", "rollouts": "vllm", "vllm_mode": "colocate",
           "vllm_dtype": "float32"}  # fmt: skip
    manifest = {"results": {"parallel": how | ran}, "attempts": [{}] * attempts}
    return Left(manifest, [row | {"step": i + 1} for i in range(steps)])


def test_a_run_that_left_the_wrong_thing_fails() -> None:
    assert "single on 1, 1.00 s a step" in judge_training(left(), CPU)
    assert "log-prob gap 1e-07 nats" in judge_vllm(left(), CPU)
    for judge, wrong, site, why in (
        (judge_training, left(steps=3), CPU, r"steps \[1, 2, 3\]"),
        (judge_training, left(), GPU, "it ran on cpu"),
        (judge_vllm, left(gap=1.7), CPU, "differ by 1.7 nats"),
        (judge_vllm, left(device="cuda", gap=0.2), GPU, "differ by 0.2 nats"),
        (judge_vllm, left(rollouts="openr1"), CPU, "vLLM did not draw"),
        (judge_resume, left(), CPU, "1 attempts"),
    ):
        with pytest.raises(Failed, match=why):
            judge(wrong, site)
    broken = left()
    broken.metrics[2]["loss"] = None  # the metric log's word for NaN
    with pytest.raises(Failed, match=r"not finite at the steps \[3\]"):
        judge_training(broken, CPU)


def test_the_report_can_be_pasted() -> None:
    outcomes = [
        Outcome(CHECKS[0], "passed", "single on 1", 12.3),
        Outcome(CHECKS[1], "failed", "exit 1: a | b", 3.0),
        Outcome(CHECKS[5], "not run", "no deepspeed here; make setup-deepspeed"),
    ]
    text = report(outcomes, CPU, 1.5)
    assert text.startswith("### openr1 on a CPU: 1 passed, 1 failed, 1 not run")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5 and all(line.count("|") == 6 for line in table)
    assert "torch " in text and "commit" in text


@pytest.mark.slow
def test_what_needs_no_gpu_passes_on_a_cpu(tmp_path: Path) -> None:
    """Runs, the kill, judging and the report are those of a GPU machine."""
    done = contact("--device", "cpu", "--only", "step,resume", "--work", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| passed |") == 2 and "went on after kill -9" in done.stdout


@pytest.mark.gpu
def test_first_contact(tmp_path: Path) -> None:
    done = contact("--work", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
