"""Training stages in forks of one process, so that a kill costs no imports: `python killable.py MODEL`.

A line `CASE WORK` on standard input starts an attempt; two lines answer: its process id, and later how it ended.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from openr1.launch.child import die_with_parent
from openr1.metrics import MetricLog
from openr1.rewards import ComposedReward
from openr1.train.settings import GRPOSettings, LoraSettings, SFTSettings

sys.path.insert(0, str(Path(__file__).parent))
from train_helpers import GRPO_TRAIN, REWARD, SFT_TRAIN, make_prompt, make_rows  # noqa: E402

LORA = LoraSettings(r=2, alpha=4, dropout=0.1, target_modules=["q_proj", "down_proj"])
# kind, adapters, and what the train block says beside that of the helpers
CASES: dict[str, tuple[str, LoraSettings | None, dict[str, Any]]] = {
    "sft": ("sft", None, {"max_steps": 60, "save_steps": 5}),
    # rows by length, two micro-steps, an optimizer that is not the default one; checkpoints across the ends of epochs
    "sft_grouped": ("sft", None, {
        "max_steps": 40, "save_steps": 7, "gradient_accumulation_steps": 2, "optim": "adafactor",
        "train_sampling_strategy": "group_by_length",
    }),
    "sft_lora": ("sft", LORA, {"max_steps": 40, "save_steps": 6}),
    # checkpoints in the middle of generation cycles
    "grpo": ("grpo", None, {"max_steps": 16, "save_steps": 3, "steps_per_generation": 2}),
    # every generation is learned from twice, in two micro-steps of two optimizer steps; a reference model besides
    "grpo_twice": ("grpo", None, {
        "max_steps": 16, "save_steps": 3, "num_iterations": 2, "steps_per_generation": 4, "beta": 0.04,
        "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4,
    }),
    "grpo_lora": ("grpo", LORA, {"max_steps": 16, "save_steps": 3, "steps_per_generation": 2}),
}  # fmt: skip


def steps(case: str) -> int:
    return int(CASES[case][2]["max_steps"])


def run(case: str, model: Path, work: Path) -> None:
    kind, lora, train = CASES[case]
    prompts = [make_prompt(a, b) for a in range(1, 5) for b in range(1, 5)]
    common: dict[str, Any] = {"model_dir": model, "out": work / "model", "work": work, "seed": 3}
    common["metrics"] = MetricLog(work / "metrics.jsonl")
    if kind == "sft":
        from openr1.train.sft import run_sft

        settings = SFTSettings(train=SFT_TRAIN | {"save_total_limit": 2} | train, lora=lora)
        run_sft(rows=make_rows(prompts), settings=settings, **common)
    else:
        from openr1.train.grpo import run_grpo

        settings_of = GRPOSettings(train=GRPO_TRAIN | train, reward=REWARD, lora=lora)
        run_grpo(prompts=prompts, settings=settings_of, reward=ComposedReward(REWARD), **common)


def attempt(case: str, model: Path, work: Path) -> int:
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        die_with_parent(parent)
        work.mkdir(parents=True, exist_ok=True)
        log = os.open(work.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        run(case, model, work)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def main(model: Path) -> None:
    import peft  # noqa: F401
    import torch

    import openr1.train.grpo
    import openr1.train.sft  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        case, work = line.split()
        process = attempt(case, model, Path(work))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
