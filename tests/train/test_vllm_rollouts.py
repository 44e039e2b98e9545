"""How vLLM draws for the trainer, as far as it can be told without vLLM; the real one is in tests/real_vllm."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openr1.errors import UserError
from openr1.train.account import TrainResult
from openr1.train.vllm_rollouts import VLLMRollouts, colocate_arguments, compute_dtype, mode_of, start_server


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


def test_a_server_without_gpus_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    arguments = SimpleNamespace(vllm_tensor_parallel_size=2)
    with pytest.raises(UserError, match="2 that train and 2 of the vLLM server .* are 4 GPUs, 3 are visible"):
        start_server(arguments, SimpleNamespace(name_or_path="m"), "bfloat16", [1], 64, 2, tmp_path)


def test_without_vllm_training_is_refused_with_the_way_to_get_it(
    grpo: Callable[..., TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    from openr1.train import available

    monkeypatch.setattr(available, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"train.use_vllm: needs vLLM.*make setup-vllm.*\.venv-vllm/bin/openr1"):
        grpo("run", use_vllm=True)
