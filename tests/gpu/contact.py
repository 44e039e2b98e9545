"""First contact with GPUs, `make test-gpu`: short runs of what only a GPU can show, and a report for an issue.

Every check is an `openr1 run` of its own and is judged by the manifest and the metrics that it leaves. It ends within
ten minutes: what has no time left is reported as not run. `--device cpu` runs the same checks on a machine without a
GPU, with a smaller model and float32; it is how they were tested. Exit code 0: nothing that ran has failed; 1:
something has, or there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from openr1.launch import hardware
from openr1.manifest import git_state, package_versions
from openr1.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 10.0
RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.{stage}: {stage}
  - /model@stages.{stage}.model: qwen3_tiny
  - _self_
track: {{mode: "off"}}
stages:
  prompts: {{task: "${{data}}", splits: {{rl: {{size: 64}}}}}}
  {stage}: {body}
"""
BODIES = {
    "grpo": """
    inputs: {data: prompts/rl}
    train: {per_device_train_batch_size: 16, num_generations: 4, max_completion_length: 48, learning_rate: 1.0e-4,
            max_steps: 4, save_steps: 2}""",
    "generate": "{inputs: {data: prompts/rl}, k: 2, sampling: {max_new_tokens: 48, temperature: 1.0}}",
}
SIZES = {  # of the model from scratch: 0.2B parameters where there is a GPU
    "cpu": {"layers": 2, "hidden": 64, "ffn": 128, "heads": 2, "dtype": "float32"},
    "gpu": {"layers": 12, "hidden": 1024, "ffn": 3072, "heads": 16, "kv_heads": 4, "dtype": "bfloat16"},
}
GAP = {"float32": 1e-3, "bfloat16": 0.1}  # nats between trainer and vLLM that dtypes may explain


class Failed(Exception):
    """What a run left is not what it should have left."""


@dataclass(frozen=True)
class Site:
    """Where the checks run."""

    device: str
    gpus: int

    @property
    def dtype(self) -> str:
        return str(SIZES[self.device]["dtype"])


@dataclass(frozen=True)
class Left:
    """What a run has left: the manifest of its stage and, of training, the metrics."""

    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]


@dataclass(frozen=True)
class Check:
    """One run. `gpus`: the least it takes on a GPU machine. `module`: what its environment must hold; `get`: how.

    `words` are the overrides for a site, `judge` says what was seen or raises Failed, `killed` ends the first attempt
    with kill -9 once there is a checkpoint.
    """

    name: str
    shows: str
    judge: Callable[[Left, Site], str]
    words: Callable[[Site], list[str]] = lambda site: []
    stage: str = "grpo"
    gpus: int = 1
    module: str | None = None
    get: str = ""
    killed: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a check ended: `passed`, `failed` or `not run`."""

    check: Check
    state: str
    seen: str
    seconds: float = 0.0


# ------------------------------------------------------------------------------------------------------------- judges
def judge_training(left: Left, site: Site) -> str:
    """Four finite steps on the device that was asked for."""
    ran = left.manifest["results"]["parallel"]
    if ran["device"] != ("cuda" if site.device == "gpu" else "cpu"):
        raise Failed(f"it ran on {ran['device']}")
    steps = [row["step"] for row in left.metrics]
    if steps != [1, 2, 3, 4]:
        raise Failed(f"its metrics are of the steps {steps}")
    if bad := [row["step"] for row in left.metrics if row.get("loss") is None or row.get("grad_norm") is None]:
        raise Failed(f"loss or gradient norm is not finite at the steps {bad}")
    last, mfu = left.metrics[-1], left.metrics[-1].get("speed/mfu")
    seconds = f"{last['seconds/step']:.2f} s a step (generate {last['seconds/generate']:.2f})"
    return f"{ran['kind']} on {ran['processes']}, {seconds}" + ("" if mfu is None else f", MFU {mfu:.4f}")


def judge_vllm(left: Left, site: Site) -> str:
    """Trained on vLLM's completions, whose log-probabilities are the trainer's after every change of the weights."""
    said = judge_training(left, site)
    ran = left.manifest["results"]["parallel"]
    gaps = [row.get("logprob_gap") for row in left.metrics]
    if ran["rollouts"] != "vllm" or any(gap is None for gap in gaps):
        raise Failed("vLLM did not draw, or nothing was compared")
    if max(gaps) > GAP[site.dtype]:
        raise Failed(
            f"log-probabilities of trainer and vLLM differ by {max(gaps):.3g} nats, at most {GAP[site.dtype]}"
        )
    by = f", weights by {ran['weights_by']}" if "weights_by" in ran else ""
    return f"{said}; {ran['vllm_mode']} in {ran['vllm_dtype']}{by}, log-prob gap {max(gaps):.2g} nats"


def judge_resume(left: Left, site: Site) -> str:
    said = judge_training(left, site)
    attempts = len(left.manifest["attempts"])
    if attempts != 2:
        raise Failed(f"{attempts} attempts, expected a killed one and one that went on")
    return f"{said}; went on after kill -9"


def judge_generation(left: Left, site: Site) -> str:
    """Every completion once, none of them an error."""
    rows = left.manifest["outputs"]["store"]["rows"]
    if rows != 128:
        raise Failed(f"{rows} completions, expected 128")
    tokens, seconds = left.manifest["tokens"].get("generated", 0), left.manifest["seconds"]
    return f"{rows} completions, {tokens} tokens, {seconds:.0f} s with vLLM's start"


def on_gpus(count: int, site: Site, kind: str | None = None) -> list[str]:
    """The overrides that ask for `count` GPUs, all of which train with `kind`."""
    asked = [f"stages.grpo.resources.gpus={count}"] if site.device == "gpu" else []
    return asked + ([f"parallel={kind}", f"stages.grpo.parallel.processes={count}"] if kind else [])


def server_words(site: Site) -> list[str]:
    words = ["stages.grpo.train.use_vllm=true", "stages.grpo.train.vllm_mode=server"]
    return words + on_gpus(2, site)


def zero3_words(site: Site) -> list[str]:
    count = max(min(site.gpus, 8), 1) if site.device == "gpu" else 2
    return [*on_gpus(count, site, "zero3"), "stages.grpo.train.per_device_train_batch_size=4"]


VLLM = {"module": "vllm", "get": "make setup-vllm"}
CHECKS = (
    Check("step", "a step in bf16, rollouts of transformers", judge_training, lambda s: on_gpus(1, s)),
    Check("resume", "kill -9 and the same command", judge_resume, lambda s: on_gpus(1, s), killed=True),
    Check(
        "colocate", "vLLM in the trainer's process", judge_vllm,
        lambda s: ["stages.grpo.train.use_vllm=true", *on_gpus(1, s)], **VLLM,
    ),
    Check("generate", "`vllm serve`, started by a generate stage", judge_generation, lambda s: ["engine=vllm"],
          stage="generate", **VLLM),
    Check("server", "a vLLM server that weights go to", judge_vllm, server_words, gpus=2, **VLLM),
    Check("zero3", "DeepSpeed ZeRO-3 on all GPUs", judge_training, zero3_words, module="deepspeed",
          get="make setup-deepspeed"),
)  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- runs
def program(check: Check) -> str | None:
    """The Python whose environment holds what the check needs: this one, or that of `.venv-vllm`."""
    if check.module is None or find_spec(check.module) is not None:
        return sys.executable
    beside = ROOT / ".venv-vllm" / "bin" / "python"
    return str(beside) if check.module == "vllm" and beside.exists() else None


def run_check(check: Check, site: Site, work: Path, until: float) -> Outcome:
    """Run it, in `work`; it is ended at the monotonic time `until`."""
    began = time.monotonic()
    python = program(check)
    if python is None:
        return Outcome(check, "not run", f"no {check.module} here; {check.get}")
    if site.device == "gpu" and site.gpus < check.gpus:
        return Outcome(check, "not run", f"takes {check.gpus} GPUs, {site.gpus} here")
    if until - began < 20:
        return Outcome(check, "not run", f"the {MINUTES:g} minutes are over")
    size = [f"stages.{check.stage}.model.{key}={value}" for key, value in SIZES[site.device].items()]
    words = ["run", f"recipe=contact_{check.stage}", f"run={check.name}", *size, *check.words(site)]
    folder, log = work / "runs" / check.name / check.stage, work / f"{check.name}.log"
    try:
        if check.killed:
            _run([python, "-m", "openr1.cli", *words], work, log, until, folder / "checkpoint-2")
        _run([python, "-m", "openr1.cli", *words], work, log, until)
        left = Left(json.loads((folder / "manifest.json").read_text()), read_metrics(folder / "metrics.jsonl"))
        state, seen = "passed", check.judge(left, site)
    except Failed as e:
        state, seen = "failed", str(e)
    return Outcome(check, state, seen, time.monotonic() - began)


def _run(command: Sequence[str], work: Path, log: Path, until: float, kill_at: Path | None = None) -> None:
    """Raise Failed unless it ends well; with `kill_at` it is killed, with all it has started, once that exists."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=work, stdout=out, stderr=out, start_new_session=True)
    while process.poll() is None:
        late = time.monotonic() > until
        if late or (kill_at is not None and kill_at.exists()):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if late:
                raise Failed(f"no time was left for it; {_last_line(log)}")
            return
        time.sleep(0.05)
    if kill_at is not None:
        raise Failed(f"it ended before it could be killed; {_last_line(log)}")
    if process.returncode:
        raise Failed(f"exit {process.returncode}: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("openr1:")), lines[-1] if lines else "no output")


# ------------------------------------------------------------------------------------------------------------ report
def report(outcomes: Sequence[Outcome], site: Site, minutes: float) -> str:
    """Markdown, for an issue."""
    versions, git = package_versions(), git_state() or {}
    names = ("openr1", "torch", "transformers", "trl", "vllm", "accelerate", "deepspeed")
    shown = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    count = {state: sum(o.state == state for o in outcomes) for state in ("passed", "failed", "not run")}
    lines = [
        f"### openr1 on {'GPUs' if site.device == 'gpu' else 'a CPU'}: "
        + ", ".join(f"{n} {state}" for state, n in count.items() if n),
        "",
        f"- GPUs: {'; '.join(hardware.gpus()) or 'none'}",
        f"- Python {platform.python_version()}, {platform.platform()}, {hardware.cores()} cores, "
        f"{hardware.memory_gib():.0f} GiB",
        f"- {shown}",
        f"- commit {git.get('commit', 'unknown')}{' and changes' * bool(git.get('dirty'))}, {minutes:.1f} minutes",
        "",
        "| check | what it shows | outcome | seconds | seen |",
        "|---|---|---|---|---|",
    ]
    for o in outcomes:
        seconds = f"{o.seconds:.0f}" if o.seconds else "–"
        seen = o.seen.replace("|", "/")
        lines.append(f"| {o.check.name} | {o.check.shows} | {o.state} | {seconds} | {seen} |")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make test-gpu", description="first contact with GPUs")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--only", default=",".join(c.name for c in CHECKS), help="checks, joined by commas")
    parser.add_argument("--work", type=Path, help="where the runs are kept; by default they are removed")
    asked = parser.parse_args(given)
    site = Site(asked.device, hardware.gpu_count())
    if site.device == "gpu" and not site.gpus:
        print("test-gpu: no GPU here (nvidia-smi lists none); run it on a machine with 1 to 8", file=sys.stderr)
        return 1
    if unknown := set(asked.only.split(",")) - {c.name for c in CHECKS}:
        parser.error(f"--only: no check {', '.join(sorted(unknown))}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="openr1-gpu-") as scratch:
        work = (asked.work or Path(scratch)).resolve()
        (work / "recipes" / "recipe").mkdir(parents=True, exist_ok=True)
        for stage, body in BODIES.items():
            (work / "recipes" / "recipe" / f"contact_{stage}.yaml").write_text(RECIPE.format(stage=stage, body=body))
        began = time.monotonic()
        outcomes = []
        for check in (c for c in CHECKS if c.name in asked.only.split(",")):
            outcomes.append(run_check(check, site, work, began + 60 * MINUTES))
            print(f"{check.name}: {outcomes[-1].state} ({outcomes[-1].seen})", file=sys.stderr, flush=True)
        print(report(outcomes, site, (time.monotonic() - began) / 60))
    return 1 if any(o.state == "failed" for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
