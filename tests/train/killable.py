"""A training stage as a process of its own, to be killed: `python killable.py KIND MODEL WORK`."""

from __future__ import annotations

import sys
from pathlib import Path

from openr1.metrics import MetricLog
from openr1.rewards import ComposedReward
from openr1.train.settings import GRPOSettings, SFTSettings

sys.path.insert(0, str(Path(__file__).parent))
from train_helpers import GRPO_TRAIN, REWARD, SFT_TRAIN, make_prompt, make_rows  # noqa: E402

STEPS = {"sft": 60, "grpo": 16}


def run(kind: str, model: Path, work: Path) -> None:
    prompts = [make_prompt(a, b) for a in range(1, 5) for b in range(1, 5)]
    common = {"model_dir": model, "out": work / "model", "work": work, "seed": 3}
    metrics = MetricLog(work / "metrics.jsonl")
    if kind == "sft":
        from openr1.train.sft import run_sft

        train = SFT_TRAIN | {"max_steps": STEPS[kind], "save_steps": 5, "save_total_limit": 2}
        run_sft(rows=make_rows(prompts), settings=SFTSettings(train=train), metrics=metrics, **common)  # type: ignore[arg-type]
    else:
        from openr1.train.grpo import run_grpo

        # checkpoints fall into the middle of generation cycles
        train = GRPO_TRAIN | {"max_steps": STEPS[kind], "save_steps": 3, "steps_per_generation": 2}
        settings = GRPOSettings(train=train, reward=REWARD)
        run_grpo(prompts=prompts, settings=settings, reward=ComposedReward(REWARD), metrics=metrics, **common)  # type: ignore[arg-type]


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
