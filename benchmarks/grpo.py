"""What a GRPO step of ours costs over a plain TRL script with the same settings, and how soon algorithms learn.

Both train the same small model, which adds numbers and is partly competent, on the same prompts: `GRPOTrainer` with
TRL's own generation and reward functions as its documentation has it, and `openr1.train.grpo.run_grpo` with all that
it does beside (rollouts kept, one composed reward, guards, watchdog, profile, a metric log). They run in processes of
their own, in turns (plain, ours, ours, plain, …); what is compared are core-seconds a step of the whole process tree,
user and system, from the end of step `--warm` to the end of the last. `accuracy`: TRL's accuracy_reward, which is
math-verify, against our verifier, each as it comes; `trivial`: the same few characters counted by both, so that what
is left is the trainer. The goal is a ratio of 1.05.

Where .venv-vllm is, the same step is timed once more with vLLM beside the trainer. `--learning` is another question:
seconds and samples to a given accuracy, see grpo_learning.py.

    python benchmarks/grpo.py [--pairs 4] [--steps 10] [--rewards trivial,accuracy] [--json FILE]
    python benchmarks/grpo.py --learning [--algorithms grpo,dapo,dr_grpo] [--seeds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GOAL = 1.05
WARM = 2
PROMPTS, GROUP, TOKENS = 16, 8, 64
HERE = Path(__file__).resolve()
TRAIN: dict[str, Any] = {
    "per_device_train_batch_size": PROMPTS * GROUP, "num_generations": GROUP, "max_completion_length": TOKENS,
    "learning_rate": 5e-5, "lr_scheduler_type": "constant", "temperature": 1.0, "beta": 0.0, "adam_beta2": 0.99,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- the start
def make_start(folder: Path) -> None:
    """A model of 0.8 million parameters after some SFT on worked additions, and prompts to go on with."""
    from openr1.metrics import MetricLog
    from openr1.models.scratch import init_model
    from openr1.models.settings import ModelSettings
    from openr1.records import PROMPT_SCHEMA
    from openr1.stages.base import solved_rows, write_rows
    from openr1.tasks import build_splits
    from openr1.tasks.settings import ArithmeticSettings, SplitSettings
    from openr1.train.settings import SFTSettings
    from openr1.train.sft import run_sft

    facts = {
        "source": "scratch", "architecture": "qwen3", "layers": 4, "hidden": 128, "ffn": 384, "heads": 4,
        "kv_heads": 2, "context": 256, "dtype": "float32", "tie_embeddings": True, "rope_theta": 1e4,
        "tokenizer": {"kind": "char", "words": ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{"]},
    }  # fmt: skip
    task = ArithmeticSettings.model_validate({"name": "arithmetic", "operation": "add", "digits": [2, 3]})
    sizes = {"train": SplitSettings(size=6400), "rl": SplitSettings(size=400)}
    built = build_splits(task, sizes, 0)
    settings = SFTSettings(train={"per_device_train_batch_size": 64, "learning_rate": 2e-3, "max_steps": 120})
    run_sft(
        model_dir=init_model(ModelSettings.model_validate(facts), 0, folder / "scratch"),
        rows=solved_rows(built.splits["train"]), settings=settings, out=folder / "model", work=folder / "sft",
        metrics=MetricLog(folder / "sft/metrics.jsonl"), seed=0,
    )  # fmt: skip
    write_rows(folder / "prompts", built.splits["rl"], PROMPT_SCHEMA)


# -------------------------------------------------------------------------------------------------- the contenders
def tree_seconds() -> float:
    """Core-seconds of this process, of those that it waited for, and of those below it that live."""
    import psutil

    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in psutil.Process().children(recursive=True):
        used = child.cpu_times()
        total += used.user + used.system + used.children_user + used.children_system
    return total


class Marks:
    """Core-seconds at the end of the steps `WARM` and `last`."""

    def __init__(self, last: int) -> None:
        self.last, self.at = last, {}  # type: int, dict[int, float]

    def step(self, number: int) -> None:
        if number in (WARM, self.last):
            self.at[number] = tree_seconds()

    def each(self) -> float:
        return (self.at[self.last] - self.at[WARM]) / (self.last - WARM)


def characters(texts: list[str]) -> list[float]:
    """The trivial reward: how many kinds of characters a completion has."""
    return [len(set(text)) / 10 for text in texts]


def ours(folder: Path, work: Path, steps: int, reward: str, vllm: bool) -> dict[str, float]:
    from openr1.metrics import MetricLog
    from openr1.rewards import ComposedReward, PartSettings, RewardSettings
    from openr1.stages.base import read_prompts
    from openr1.train.grpo import run_grpo
    from openr1.train.settings import GRPOSettings

    marks = Marks(steps)

    class Log(MetricLog):
        def log(self, step: int, values: Any) -> None:
            super().log(step, values)
            marks.step(step)

    part = (
        PartSettings(weight=1.0) if reward == "accuracy" else PartSettings(weight=1.0, function="grpo:characters_of")
    )
    settings = RewardSettings(parts={"accuracy": part})
    train = TRAIN | {"max_steps": steps, "save_steps": 10**6}
    if vllm:
        train |= {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3}
    result = run_grpo(
        model_dir=folder / "model", prompts=read_prompts(folder / "prompts"), reward=ComposedReward(settings),
        settings=GRPOSettings(train=train, reward=settings), out=work / "model", work=work,
        metrics=Log(work / "metrics.jsonl"), seed=1,
    )  # fmt: skip
    phases = {
        name: seconds / steps for name, seconds in result.phases.items() if name in ("generate", "grade", "train")
    }
    return {"core_seconds": marks.each(), "tokens": result.tokens["generated"] / steps / (PROMPTS * GROUP), **phases}


def characters_of(batch: Any) -> list[float | None]:
    return list(characters(list(batch.completions)))


def plain(folder: Path, work: Path, steps: int, reward: str) -> dict[str, float]:
    """A script as TRL's documentation has it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
    from trl.rewards import accuracy_reward

    from openr1.stages.base import read_prompts

    marks, lengths = Marks(steps), []  # type: Marks, list[int]

    class Clock(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                marks.step(state.global_step)
                lengths.append(logs["completions/mean_length"])

    def trivial(completions: list[Any], **_: Any) -> list[float]:
        return characters([c[0]["content"] for c in completions])

    rows = [
        {"prompt": [dict(m) for m in p.messages], "solution": f"${p.answer}$"}
        for p in read_prompts(folder / "prompts")
    ]
    config = GRPOConfig(
        output_dir=str(work), max_steps=steps, save_strategy="no", report_to="none", logging_steps=1, seed=1,
        use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, dataloader_pin_memory=False,
        **TRAIN,
    )  # fmt: skip
    GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model"),
        processing_class=AutoTokenizer.from_pretrained(folder / "model", padding_side="left"),
        reward_funcs=accuracy_reward if reward == "accuracy" else trivial,
        args=config, train_dataset=Dataset.from_list(rows), callbacks=[Clock()],
    ).train()  # fmt: skip
    return {"core_seconds": marks.each(), "tokens": statistics.fmean(lengths)}


# ------------------------------------------------------------------------------------------------------ comparisons
def run(who: str, folder: Path, steps: int, reward: str, python: str = sys.executable) -> dict[str, float]:
    """One contender in a process of its own. Raises RuntimeError, with what it said last, if it fails."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [python, str(HERE), "--one", who, "--start", str(folder), "--steps", str(steps), "--rewards", reward]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(HERE.parent),
            "TRL_EXPERIMENTAL_SILENCE": "1",
        }
        done = subprocess.run([*command, "--work", work], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{who} failed: {done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, steps: int, pairs: int, reward: str) -> dict[str, Any]:
    """Core-seconds a step of both, in turns, and the ratio of each pair."""
    found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for i in range(pairs):
        for who in ("plain", "ours") if i % 2 == 0 else ("ours", "plain"):
            found[who].append(run(who, folder, steps, reward))
    seconds = {who: [r["core_seconds"] for r in rows] for who, rows in found.items()}
    ratios = sorted(o / p for o, p in zip(seconds["ours"], seconds["plain"], strict=True))
    middle = {who: statistics.median(s) for who, s in seconds.items()}
    tokens = {who: statistics.fmean(r["tokens"] for r in rows) for who, rows in found.items()}
    ratio = statistics.median(ratios)
    print(
        f"reward {reward}: core-seconds a step: plain TRL {middle['plain']:.2f}, ours {middle['ours']:.2f}; ratio "
        f"{ratio:.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}] over {pairs} pairs (goal {GOAL}); tokens a completion "
        f"{tokens['plain']:.1f} and {tokens['ours']:.1f}",
        flush=True,
    )
    phases = {p: statistics.fmean(r[p] for r in found["ours"]) for p in ("generate", "grade", "train")}
    print("  ours, seconds a step: " + ", ".join(f"{p} {s:.2f}" for p, s in phases.items()), flush=True)
    return {
        "reward": reward,
        "ratio": ratio,
        "ratios": ratios,
        "core_seconds": seconds,
        "tokens": tokens,
        "phases": phases,
    }


def with_vllm(folder: Path, steps: int) -> dict[str, Any] | None:
    """Our step with transformers' and with vLLM's rollouts, both by the Python of .venv-vllm."""
    python = HERE.parents[1] / ".venv-vllm/bin/python"
    if not python.exists():
        print("rollouts by vLLM: skipped, no .venv-vllm here (make setup-vllm)")
        return None
    try:
        found = {who: run(who, folder, steps, "trivial", str(python)) for who in ("ours", "ours-vllm")}
    except RuntimeError as e:
        print(f"rollouts by vLLM: not measured, {str(e).strip().splitlines()[-1]}")
        return None
    a, b = found["ours"], found["ours-vllm"]
    print(
        f"rollouts: core-seconds a step: transformers {a['core_seconds']:.2f}, vLLM {b['core_seconds']:.2f}, ratio "
        f"{b['core_seconds'] / a['core_seconds']:.2f}; seconds generating {a['generate']:.2f} and {b['generate']:.2f}"
    )
    return found


def count(text: str) -> int:
    """A number of at least 1, or the error that argparse shows."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of at least 1")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rewards", default="trivial,accuracy")
    parser.add_argument("--learning", action="store_true", help="seconds and samples to a given accuracy")
    parser.add_argument("--algorithms", default="grpo,dapo,dr_grpo")
    parser.add_argument("--seeds", type=count, default=3, help="how many (3)")
    parser.add_argument("--json", type=Path)
    for name in ("--one", "--start", "--work"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        start, work = Path(args.start), Path(args.work)
        one = plain(start, work, args.steps, args.rewards) if args.one == "plain" else ours(
            start, work, args.steps, args.rewards, vllm=args.one == "ours-vllm"
        )  # fmt: skip
        print(json.dumps(one))
        return
    if args.learning:
        from grpo_learning import learn

        result: Any = learn(args.algorithms.split(","), args.seeds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_start(Path(folder))
            result = [compare(Path(folder), args.steps, args.pairs, reward) for reward in args.rewards.split(",")]
            result.append(with_vllm(Path(folder), args.steps))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
