"""A recipe that trains the same tiny model on one process and on several, and what its stages leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from openr1.config.compose import compose_recipe
from openr1.config.recipe import validate
from openr1.launch.engine import run_stage
from openr1.launch.plan import Step
from openr1.manifest import Manifest
from openr1.metrics import read_metrics
from openr1.train import rollouts

RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.base: sft
  - /model@stages.base.model: qwen3_tiny
{defaults}
  - _self_
track: {{mode: "off"}}
cluster: {{threads: 2, workers: 1}}
stages:
  prompts:
    task: ${{data}}
    splits: {{train: {{size: 64}}, rl: {{size: 16}}}}
  base:
    inputs: {{data: prompts/train}}
    model: {{layers: 1, hidden: 32, ffn: 64, heads: 2, kv_heads: 1}}
    train: {{per_device_train_batch_size: 16, learning_rate: 3.0e-3, max_steps: 3, max_length: 128}}
{stages}
"""
SFT = """\
  {name}:
    inputs: {{data: prompts/train, model: base/model}}
    train: {{per_device_train_batch_size: {batch}, learning_rate: 3.0e-3, max_steps: 3, save_steps: 2}}
    parallel: {{kind: {kind}, processes: {processes}}}
"""
GRPO = """\
  {name}:
    inputs: {{data: prompts/rl, model: base/model}}
    shuffle_rewards: {shuffle}
    train:
      per_device_train_batch_size: {batch}
      num_generations: 4
      max_completion_length: 12
      learning_rate: 1.0e-3
      max_steps: 3
      save_steps: 2
    reward:
      parts:
        accuracy: {{weight: 1.0, function: "train_helpers:masked_second"}}
        varied: {{weight: 0.5, function: "train_helpers:varied"}}
    parallel: {{kind: {kind}, processes: {processes}}}
"""


def project(folder: Path, stages: dict[str, tuple[str, str, int, int]], shuffle: bool = False) -> Path:
    """A project with the recipe `pairs`: name -> (sft or grpo, kind of parallel, processes, batch of each)."""
    blocks = "".join(
        (SFT if kind == "sft" else GRPO).format(
            name=name, kind=parallel, processes=count, batch=batch, shuffle=str(shuffle).lower()
        )
        for name, (kind, parallel, count, batch) in stages.items()
    )
    defaults = "\n".join(f"  - /stage@stages.{name}: {kind}" for name, (kind, *_) in stages.items())
    (folder / "recipes/recipe").mkdir(parents=True)
    (folder / "recipes/recipe/pairs.yaml").write_text(RECIPE.format(defaults=defaults, stages=blocks))
    return folder


def stage(folder: Path, name: str) -> Manifest:
    """Run one stage with this process as its owner; only its ranks are other processes."""
    cwd = Path.cwd()
    os.chdir(folder)
    try:
        recipe = validate(compose_recipe("pairs", ["run=run"]))
    finally:
        os.chdir(cwd)
    return run_stage(recipe, folder / "runs/run", Step(name, "run", "asked for by a test"))


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """`openr1 run recipe=pairs run=run …` in the project."""
    environment = os.environ | {"OPENR1_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "2"}
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]  # train_helpers: a reward of its own
    environment["PYTHONPATH"] = os.pathsep.join(p for p in places if p)
    command = [sys.executable, "-m", "openr1.cli", "run", "recipe=pairs", "run=run", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(folder: Path, *words: str, fails: bool = False) -> str:
    """The run's messages; asserts that it ends well, or badly."""
    process = start(folder, *words)
    _, messages = process.communicate(timeout=900)
    assert (process.returncode != 0) == fails, messages + logs(folder)
    return messages


def logs(folder: Path) -> str:
    return "".join(f"\n== {p}\n{p.read_text()[-3000:]}" for p in sorted(folder.glob("runs/run/*/logs/*/*.log")))


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "runs/run" / stage / "manifest.json").read_text())


def metrics(folder: Path, stage: str) -> list[dict[str, Any]]:
    return read_metrics(folder / "runs/run" / stage / "metrics.jsonl")


def column(folder: Path, stage: str, name: str) -> list[float]:
    return [row[name] for row in metrics(folder, stage)]


def completions(folder: Path, stage: str) -> pa.Table:
    return rollouts.read(folder / "runs/run" / stage)


def weights(folder: Path, stage: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "runs/run" / stage / "model/model.safetensors")
