"""How vLLM draws for the trainer, as far as it can be told without vLLM; the real one is in tests/real_vllm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openr1.errors import OutsideError, UserError
from openr1.train.account import TrainResult
from openr1.train.vllm_rollouts import (
    OWN_SERVER,
    OwnServer,
    VLLMRollouts,
    colocate_arguments,
    compute_dtype,
    mode_of,
    planned_dtype,
    seeded,
    vllm_rollouts,
)


def test_every_row_of_every_micro_step_has_a_seed_of_its_own() -> None:
    one, other = (VLLMRollouts(seed, [0], "float32") for seed in (1, 2))
    seeds = {s for step in range(4) for s in one.row_seeds(step, 0, 64)}
    assert len(seeds) == 256 and not seeds & set(other.row_seeds(0, 0, 64))
    assert one.row_seeds(3, 0, 4) + one.row_seeds(3, 4, 4) == one.row_seeds(
        3, 0, 8
    )  # two processes draw what one would


@pytest.mark.parametrize(
    ("weights", "bf16", "fp16", "expected"),
    [
        (torch.bfloat16, True, False, "bfloat16"),
        (torch.float32, True, False, "bfloat16"),
        (torch.float32, False, True, "float16"),
        (torch.float32, False, False, "float32"),
        (torch.float16, False, False, "float16"),
    ],
)
def test_vllm_computes_in_the_dtype_of_the_trainer(
    weights: torch.dtype, bf16: bool, fp16: bool, expected: str
) -> None:
    model, arguments = SimpleNamespace(dtype=weights), SimpleNamespace(bf16=bf16, fp16=fp16)
    assert compute_dtype(model, arguments) == expected


def test_a_cpu_engine_has_room_for_a_whole_prompt_and_compiles_nothing() -> None:
    cpu, gpu = (colocate_arguments("float32", gpu, 9000) for gpu in (False, True))
    assert cpu["max_num_batched_tokens"] == 9000 and cpu["enforce_eager"] and not cpu["enable_chunked_prefill"]
    assert gpu == {"dtype": "float32", "generation_config": "vllm"}


def test_the_mode_is_trls_default_where_only_use_vllm_is_said() -> None:
    assert mode_of({}) is None and mode_of({"use_vllm": False, "vllm_mode": "server"}) is None
    assert mode_of({"use_vllm": True}) == "colocate"


@pytest.mark.parametrize(
    ("saved", "train", "gpu"),
    [
        ("bfloat16", {}, True),
        ("float32", {}, True),
        ("float32", {"fp16": True}, True),
        ("float32", {"fp16": False}, True),
        ("float32", {"bf16": False}, True),
        ("bfloat16", {}, False),
        ("float16", {"model_init_kwargs": {"dtype": "float32"}, "bf16": True}, False),
        (None, {}, True),
    ],
)
def test_the_dtype_is_known_before_the_trainer_starts(
    saved: str | None, train: dict[str, Any], gpu: bool, tmp_path: Path
) -> None:
    """What planned_dtype says without loading anything is what a trainer that is made finds out."""
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps({"dtype": saved} if saved else {}))
    save_file({"w": torch.zeros(1, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    named = (train.get("model_init_kwargs") or {}).get("dtype") or ((saved or "bfloat16") if gpu else "float32")
    half = train.get("fp16", False)
    bf16 = train.get("bf16", gpu if "fp16" not in train else not half)
    model = SimpleNamespace(dtype=getattr(torch, named))
    assert planned_dtype(tmp_path, train, gpu) == compute_dtype(model, SimpleNamespace(bf16=bf16, fp16=half))


def asked(monkeypatch: pytest.MonkeyPatch, url: str | None = None) -> Any:
    """Arguments of a trainer on a CPU whose rollouts a server draws."""
    monkeypatch.delenv(OWN_SERVER, raising=False)
    return SimpleNamespace(
        use_vllm=True, vllm_mode="server", vllm_server_base_url=url, device=torch.device("cpu"), output_dir="w",
        bf16=False, fp16=False, vllm_group_port=51216,
    )  # fmt: skip


def test_a_trainer_takes_the_server_that_was_started_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, arguments = SimpleNamespace(dtype=torch.float32), asked(monkeypatch)
    told = OwnServer("http://127.0.0.1:17000", "secret", "float32", 17001)
    for name, value in told.environment().items():
        monkeypatch.setenv(name, value)
    with vllm_rollouts(arguments, model, [0], 1, 64) as plan:
        assert plan is not None and plan.server == told and plan.files == Path("w/.weights")
    assert arguments.vllm_server_base_url == told.url and arguments.vllm_group_port == 17001


def test_a_trainer_without_a_server_says_who_starts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(dtype=torch.float32)
    with (
        pytest.raises(UserError, match="no server was started for this process; `openr1 run` and a job start one"),
        vllm_rollouts(asked(monkeypatch), model, [0], 1, 64),
    ):
        raise AssertionError("it began")


def test_without_vllm_training_is_refused_with_the_way_to_get_it(
    grpo: Callable[..., TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    from openr1.train import available

    monkeypatch.setattr(available, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"train.use_vllm: needs vLLM.*make setup-vllm.*\.venv-vllm/bin/openr1"):
        grpo("run", use_vllm=True)


def test_each_row_that_vllm_draws_has_its_seed_and_one_that_it_gave_up_ends_the_stage() -> None:
    asked: list[Any] = []

    def draw(prompts: list[str], sampling_params: Any, **rest: Any) -> list[Any]:
        asked.extend(sampling_params)
        ends = ["stop" if prompt != "bad" else "abort" for prompt in prompts]
        return [SimpleNamespace(outputs=[SimpleNamespace(finish_reason=end)]) for end in ends]

    params = SimpleNamespace(seed=None, temperature=0.5)
    generate = seeded(draw, lambda rows: [100 + row for row in range(rows)])
    assert len(generate(["a", "b"], params, use_tqdm=False)) == 2
    assert [(p.seed, p.temperature) for p in asked] == [(100, 0.5), (101, 0.5)] and params.seed is None
    with pytest.raises(OutsideError, match="vLLM ended a completion with abort"):
        generate(["a", "bad"], params)
