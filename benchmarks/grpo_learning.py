"""Seconds and samples until GRPO reaches an accuracy: presets, with and without a curriculum, by seed.

Every contender goes on from the same model, which adds numbers, carelessly: 30% of what it was taught carries rightly.
Same settings, the same prompts in the same order, the same 256 development prompts, asked greedily every `EVERY`
steps; only the preset (`algorithm@stages.grpo.train=NAME`) and CURRICULUM differ. An accuracy counts as reached at the
first of two measurements in a row that are at least it. `samples` are completions drawn up to then, `seconds`
the core-seconds of the whole run (start, measurements and all) in proportion to the steps; `never`: not in `STEPS`.

    python benchmarks/grpo.py --learning [--algorithms grpo,dapo,dr_grpo] [--seeds 3] [--json FILE]
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGETS = (0.6, 0.75, 0.9)
STEPS, EVERY = 40, 4
BATCH = 128
START = "prompts,sft,generate,verify,curate"
RECIPE = f"""\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.sft: sft
  - /model@stages.sft.model: qwen3_tiny
  - /stage@stages.generate: generate
  - /stage@stages.verify: verify
  - /stage@stages.curate: curate
  - /stage@stages.grpo: grpo
  - _self_
track: {{mode: "off"}}
cluster: {{threads: 1, workers: 1}}
data: {{mixtures: {{careless: {{modes: {{clean: 0.3, forgotten: 0.7}}}}}}}}
stages:
  prompts:
    task: ${{data}}
    splits:
      dev: {{size: 256, held_out: true}}
      train: {{size: 12000, mixture: careless}}
      rl: {{size: 800}}
  sft:
    inputs: {{data: prompts/train, dev: prompts/dev}}
    stop_at: {{accuracy: 0.3, every: 20, max_new_tokens: 64, temperature: 1.0}}
    train: {{learning_rate: 3.0e-3, max_steps: 400, warmup_steps: 20, max_length: 128}}
  generate: {{inputs: {{model: sft/model, data: prompts/rl}}, k: 4, sampling: {{max_new_tokens: 64}}}}
  verify: {{inputs: {{data: prompts/rl, completions: generate/store}}}}
  curate: {{inputs: {{data: prompts/rl, completions: generate/store, verdicts: verify/store}}}}
  grpo:
    inputs: {{model: sft/model, data: curate/rl, probes: prompts/dev}}
    probes: {{every: {EVERY}, prompts: 256, max_new_tokens: 64}}
    train:
      per_device_train_batch_size: {BATCH}
      num_generations: 8
      max_completion_length: 64
      learning_rate: 1.5e-4
      temperature: 0.8
      lr_scheduler_type: constant
      adam_beta2: 0.99
      max_steps: {STEPS}
      save_steps: {STEPS}
"""
CURRICULUM = "stages.grpo.curriculum={order: easy_to_hard}"


def openr1(folder: Path, run: str, *words: str) -> float:
    """Core-seconds of the run and of everything below it."""
    command = [sys.executable, "-m", "openr1.cli", "run", "recipe=race", f"run={run}", *words]
    environment, before = os.environ | {"OMP_NUM_THREADS": "1"}, os.times()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"openr1 failed: {done.stderr[-2000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def curve(stage: Path, seconds: float) -> list[dict[str, float]]:
    """Step, accuracy, samples and seconds up to it, at every measurement of a run of so many core-seconds."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    points = []
    for path in sorted((stage / "probes").glob("step-*.parquet")):
        step = int(path.stem.split("-")[1])
        right = pc.mean(pc.equal(pq.read_table(path)["status"], "correct")).as_py()
        points.append({"step": step, "accuracy": right, "samples": step * BATCH, "seconds": seconds * step / STEPS})
    return points


def reached(points: list[dict[str, float]], target: float) -> dict[str, float] | None:
    """The first of two measurements in a row that are at least `target`."""
    for one, two in zip(points, points[1:], strict=False):
        if one["accuracy"] >= target and two["accuracy"] >= target:
            return one
    return None


def race(folder: Path, algorithm: str, curriculum: bool, seed: int) -> list[dict[str, float]]:
    """One contender, in a run that begins with the stages of the start as they are."""
    name = f"{algorithm}{'-curriculum' if curriculum else ''}-{seed}"
    shutil.copytree(folder / "runs/start", folder / "runs" / name)
    words = [f"stages.grpo.seed={seed}", f"algorithm@stages.grpo.train={algorithm}", *([CURRICULUM] * curriculum)]
    seconds = openr1(folder, name, *words)
    return curve(folder / "runs" / name / "grpo", seconds)


def learn(algorithms: list[str], seeds: int) -> list[dict[str, Any]]:
    """Every contender on every seed, a line each; then the medians."""
    from openr1.train.settings import GRPOSettings

    found: list[dict[str, Any]] = []
    able = "curriculum" in GRPOSettings.model_fields
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "recipes/recipe").mkdir(parents=True)
        (folder / "recipes/recipe/race.yaml").write_text(RECIPE)
        openr1(folder, "start", f"stages=[{START}]")
        for curriculum in (False, True) if able else (False,):
            for algorithm in algorithms:
                rows = [race(folder, algorithm, curriculum, seed) for seed in range(seeds)]
                found += [{"algorithm": algorithm, "curriculum": curriculum, "points": points} for points in rows]
                _say(algorithm, curriculum, rows)
    if not able:
        print("with a curriculum: skipped, this version has none")
    return found


def _say(algorithm: str, curriculum: bool, rows: list[list[dict[str, float]]]) -> None:
    name = f"{algorithm}{' with curriculum' if curriculum else ''}"
    ends = ", ".join(f"{points[0]['accuracy']:.3f} -> {points[-1]['accuracy']:.3f}" for points in rows)
    print(f"{name}: greedy accuracy, n = 256, by seed: {ends}", flush=True)
    for target in TARGETS:
        at = [reached(points, target) for points in rows]
        there = [p for p in at if p is not None]
        each = ", ".join(f"{p['samples']:.0f} samples {p['seconds']:.0f} s" if p else "never" for p in at)
        middle = (
            f"; median {statistics.median(p['samples'] for p in there):.0f} samples" if len(there) == len(at) else ""
        )
        print(f"  {target:.0%}: {each}{middle}", flush=True)


if __name__ == "__main__":
    sys.exit("python benchmarks/grpo.py --learning")
