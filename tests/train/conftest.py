"""A tiny model and tiny data, real ones: every training test runs TRL's trainers on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from train_helpers import GRPO_TRAIN, REWARD, SFT_TRAIN, KillingLog, make_prompt, make_rows

from openr1.metrics import MetricLog
from openr1.models.scratch import init_model
from openr1.models.settings import ModelSettings, TokenizerSettings
from openr1.records import Prompt
from openr1.rewards import ComposedReward
from openr1.train.account import TrainResult
from openr1.train.settings import GRPOSettings, SFTSettings

WORDS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of a few thousand parameters."""
    settings = ModelSettings(
        source="scratch",
        architecture="qwen3",
        layers=1,
        hidden=32,
        ffn=64,
        heads=2,
        kv_heads=1,
        context=96,
        dtype="float32",
        tie_embeddings=True,
        rope_theta=10000.0,
        tokenizer=TokenizerSettings(kind="char", words=WORDS),
    )
    return init_model(settings, 0, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    return [make_prompt(a, b) for a in range(1, 5) for b in range(1, 5)]


@pytest.fixture(scope="session")
def rows(prompts: list[Prompt]) -> list[dict[str, Any]]:
    return make_rows(prompts)


@pytest.fixture
def sft(tiny: Path, rows: list[dict[str, Any]], tmp_path: Path) -> Callable[..., TrainResult]:
    """`sft(folder, kill=None, **train)`: run SFT in tmp_path/folder, ended after step `kill`."""
    from openr1.train.sft import run_sft

    def run(name: str, kill: int | None = None, settings: dict[str, Any] | None = None, **train: Any) -> TrainResult:
        work = tmp_path / name
        log = work / "metrics.jsonl"
        arguments: dict[str, Any] = {"model_dir": tiny, "rows": rows, "seed": 1} | (settings or {})
        named = ("stop_at", "lora", "guards", "best")
        own = {name: arguments.pop(name) for name in named if name in arguments}
        return run_sft(
            settings=SFTSettings(train=SFT_TRAIN | train, **own),
            out=work / "model",
            work=work,
            metrics=MetricLog(log) if kill is None else KillingLog(log, kill),
            **arguments,
        )

    return run


@pytest.fixture
def grpo(tiny: Path, prompts: list[Prompt], tmp_path: Path) -> Callable[..., TrainResult]:
    """`grpo(folder, kill=None, settings={…}, **train)`: run GRPO in tmp_path/folder, ended after step `kill`."""
    from openr1.train.grpo import run_grpo

    def run(name: str, kill: int | None = None, settings: dict[str, Any] | None = None, **train: Any) -> TrainResult:
        work = tmp_path / name
        log = work / "metrics.jsonl"
        arguments: dict[str, Any] = {"model_dir": tiny, "prompts": prompts, "seed": 1} | (settings or {})
        named = (
            "shuffle_rewards",
            "prefill",
            "lora",
            "guards",
            "watchdog_minutes",
            "best",
            "curriculum",
            "length_schedule",
            "general_from_step",
        )
        own = {k: arguments.pop(k) for k in named if k in arguments}
        reward = arguments.pop("reward", REWARD)
        return run_grpo(
            settings=GRPOSettings(train=GRPO_TRAIN | train, reward=reward, **own),
            reward=ComposedReward(reward),
            out=work / "model",
            work=work,
            metrics=MetricLog(log) if kill is None else KillingLog(log, kill),
            **arguments,
        )

    return run
