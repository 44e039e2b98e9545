"""Two processes train what one trains, and say so; a checkpoint of two is taken up by one."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import parallel_helpers as run
import pytest
from train_helpers import GRPO_TRAIN, SFT_TRAIN

from openr1.errors import UserError
from openr1.metrics import MetricLog, of_the_machine
from openr1.train.account import TrainResult
from openr1.train.available import needs, unavailable
from openr1.train.grader import shuffled
from openr1.train.parallel import World, check_resume, save_parallel
from openr1.train.settings import ParallelSettings, SFTSettings

CLOSE = 2e-5  # two processes add the same numbers in another order


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch) -> Path:
    """A project whose stages ran on one process and on two; under GRPO with masked rows and shuffled rewards, and with
    a group of four that lies across the ranks, which have six completions each."""
    stages = {
        "sft_one": ("sft", "single", 1, 8),
        "sft_two": ("sft", "ddp", 2, 4),
        "grpo_one": ("grpo", "single", 1, 12),
        "grpo_two": ("grpo", "ddp", 2, 6),
    }
    folder = run.project(tmp_path_factory.mktemp("pairs"), stages, shuffle=True)
    monkeypatch_module.setenv("PYTHONPATH", str(Path(run.__file__).parent))
    for name in ("prompts", "base", *stages):
        run.stage(folder, name)
    return folder


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_two_processes_learn_what_one_learns(pairs: Path, kind: str) -> None:
    one, two = (run.metrics(pairs, f"{kind}_{n}") for n in ("one", "two"))
    assert [row["step"] for row in two] == [1, 2, 3]
    for a, b in zip(one, two, strict=True):
        assert {n for n in a if not of_the_machine(n)} == {n for n in b if not of_the_machine(n)}
        for name in {n for n in a if not of_the_machine(n)}:
            assert b[name] == pytest.approx(a[name], abs=CLOSE, rel=CLOSE), name
    before, after = (run.weights(pairs, f"{kind}_{n}") for n in ("one", "two"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.allclose(after[name], atol=1e-4), name


def test_the_rollouts_of_all_ranks_are_those_of_one_process(pairs: Path) -> None:
    """The same tokens, masks and control, over the batch of both ranks, in the same order."""
    one, two = (run.completions(pairs, f"grpo_{n}") for n in ("one", "two"))
    assert two.num_rows == 3 * 12
    for name in ("step", "prompt_id", "sample_index", "completion", "total", "reward", "completion_tokens"):
        assert two[name].equals(one[name]), name
    assert two["advantage"].to_pylist() == pytest.approx(one["advantage"].to_pylist(), abs=1e-5)
    rows = two.to_pylist()[:12]
    assert sum(r["total"] is None for r in rows) == 3
    assert [r["reward"] for r in rows] == shuffled([r["total"] for r in rows], 0, 1)
    assert all((r["reward"] is None) <= (r["advantage"] == 0.0) for r in rows)


def test_the_manifest_says_what_ran_and_the_key_is_that_of_the_whole_batch(pairs: Path) -> None:
    one, two = (run.manifest(pairs, f"grpo_{n}") for n in ("one", "two"))
    assert one["key"] == two["key"] and one["tokens"] == two["tokens"] and one["counts"] == two["counts"]
    ran = two["results"]["parallel"]
    assert (ran["kind"], ran["processes"], ran["device"], ran["backend"]) == ("ddp", 2, "cpu", "gloo")
    assert ran["rollouts"] == "openr1" and len(ran["peak_memory_mb"]) == 2
    assert one["results"]["parallel"]["kind"] == "single"
    assert all((pairs / f"runs/run/grpo_two/logs/attempt_1/rank-{n}.log").exists() for n in (0, 1))


def test_one_process_goes_on_from_a_checkpoint_of_two(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last step again, by one process: the same prompts and completions, the same weights but for rounding."""
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    two, again = folder / "runs/run/grpo_two", folder / "runs/run/grpo_one"
    whole = run.weights(folder, "grpo_one")
    for name in ("checkpoint-3", "checkpoint-2", "model", "rollouts"):
        shutil.rmtree(again / name)
    shutil.copytree(two / "checkpoint-2", again / "checkpoint-2")
    shutil.copytree(two / "rollouts", again / "rollouts")
    (again / "rollouts/step-000003.parquet").unlink()
    with caplog.at_level(logging.WARNING, "openr1"):
        run.stage(folder, "grpo_one")
    assert "checkpoint-2 was written by ddp on 2 processes, single on 1 goes on from it" in caplog.text
    expected = run.completions(folder, "grpo_two")
    found = run.completions(folder, "grpo_one")
    assert found["completion"].equals(expected["completion"]) and found["reward"].equals(expected["reward"])
    for name, tensor in run.weights(folder, "grpo_one").items():
        assert tensor.allclose(whole[name], atol=1e-4), name


@pytest.mark.parametrize(
    ("wrote", "in_cycle", "goes_on", "problem"),
    [
        (("ddp", 2), False, ("single", 1), None),
        (("single", 1), False, ("ddp", 4), None),
        (("ddp", 2), True, ("ddp", 2), None),
        (("ddp", 2), True, ("single", 1), "in the middle of a generation.*parallel.processes=2"),
        (("zero2", 2), False, ("zero2", 4), "optimizer state zero2 on 4 cannot take up"),
        (("ddp", 2), False, ("zero3", 2), "cannot take up; go on with parallel.kind=ddp"),
    ],
)
def test_which_processes_a_checkpoint_suits(
    tmp_path: Path, wrote: tuple[str, int], in_cycle: bool, goes_on: tuple[str, int], problem: str | None
) -> None:
    def settings(who: tuple[str, int]) -> ParallelSettings:
        return ParallelSettings.model_validate({"kind": who[0], "processes": who[1]})

    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    save_parallel(folder, settings(wrote), wrote[1], in_cycle)
    assert json.loads((folder / "parallel.json").read_text())["in_cycle"] == in_cycle
    if problem is None:
        check_resume(folder, settings(goes_on), goes_on[1])
    else:
        with pytest.raises(UserError, match=problem):
            check_resume(folder, settings(goes_on), goes_on[1])


def test_every_rank_has_a_share_and_all_shares_are_the_whole() -> None:
    for rows in (0, 1, 5, 8):
        shares = [World(rank, 4).share_of(rows) for rank in range(4)]
        assert [i for s in shares for i in range(s.start, s.stop)] == list(range(rows))
        assert {s.stop - s.start for s in shares} <= {rows // 4, rows // 4 + 1}


# ---------------------------------------------------------------------------------- what is refused before it starts
@pytest.mark.parametrize(
    ("parallel", "problem"),
    [
        ({"kind": "ddp", "processes": 2}, "ddp on 1 process was asked for, single on 1 would run"),
        ({"kind": "fsdp2", "processes": 2}, "parallel.kind fsdp2: needs a GPU"),
    ],
)
def test_what_would_not_run_as_asked_is_refused(
    tiny: Path, rows: list[dict[str, Any]], tmp_path: Path, parallel: dict[str, Any], problem: str
) -> None:
    """A process that no launcher has started is one process, whatever the settings say."""
    from openr1.train.sft import run_sft

    settings = SFTSettings(train=SFT_TRAIN, parallel=ParallelSettings.model_validate(parallel))
    log = MetricLog(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=problem):
        run_sft(
            model_dir=tiny, rows=rows, settings=settings, out=tmp_path / "model", work=tmp_path, metrics=log, seed=1
        )


def test_a_stage_that_this_machine_cannot_spread_starts_no_process(tmp_path: Path) -> None:
    folder = run.project(tmp_path, {"sharded": ("sft", "fsdp2", 2, 4)})
    run.stage(folder, "prompts")
    run.stage(folder, "base")
    with pytest.raises(UserError, match="sharded: parallel.kind fsdp2: needs a GPU, and none is here"):
        run.stage(folder, "sharded")
    assert not list(folder.glob("runs/run/sharded/logs/*/rank-*"))


def attention(name: str) -> dict[str, Any]:
    return {"model_init_kwargs": {"attn_implementation": name}}


@pytest.mark.parametrize(
    ("train", "parallel", "gpu", "has", "expected"),
    [
        ({}, {}, False, (), []),
        ({"use_liger_kernel": True}, {}, False, (), ["use_liger_kernel: needs liger-kernel and a GPU, which are"]),
        ({"use_liger_kernel": True}, {}, True, ("liger_kernel",), []),
        (attention("sdpa"), {}, False, (), []),
        (attention("flash_attention_2"), {}, True, (), ["needs flash-attn, which is not here"]),
        (attention("kernels-community/flash-attn"), {}, True, (), ["needs kernels"]),
        ({"optim": "adamw_torch_fused"}, {}, False, (), []),
        ({"optim": "adamw_8bit"}, {}, True, (), ["train.optim adamw_8bit: needs bitsandbytes, which is not here"]),
        ({"optim": "paged_lion_32bit"}, {}, False, ("bitsandbytes",), ["needs a GPU, and none is here"]),
        ({"optim": "galore_adamw_8bit"}, {}, False, (), ["needs galore-torch"]),
        ({"fp16": True, "tf32": True}, {}, False, (), ["train.fp16: needs a GPU", "train.tf32: needs a GPU"]),
        ({}, {"kind": "zero3", "processes": 2}, False, (), ["parallel.kind zero3: needs openr1[deepspeed]"]),
        ({}, {"kind": "fsdp2", "processes": 2}, True, (), []),
        ({"use_vllm": True}, {}, True, (), ["train.use_vllm: needs vLLM in the environment that trains"]),
        ({"use_vllm": False, "vllm_enable_sleep_mode": True}, {}, False, (), []),
        ({"use_vllm": True, "vllm_enable_sleep_mode": True}, {}, False, ("vllm",), ["sleep_mode: needs a GPU"]),
        ({"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://x"}, {}, False, ("vllm",),
         ["train.vllm_server_base_url: needs a GPU"]),
    ],
)  # fmt: skip
def test_what_a_machine_lacks_is_named(
    train: dict[str, Any], parallel: dict[str, Any], gpu: bool, has: tuple[str, ...], expected: list[str]
) -> None:
    found = unavailable(train, ParallelSettings.model_validate(parallel), gpu, has=lambda module: module in has)
    assert len(found) == len(expected)
    for line, piece in zip(found, expected, strict=True):
        assert piece in line


def test_every_optimizer_of_trl_is_known_to_be_plain_or_to_need_a_package() -> None:
    """The plain ones are PyTorch's own and transformers'; whatever TRL adds is looked at here."""
    from openr1.train.fields import fields

    plain = {o for o in fields("sft")["optim"]["choices"] if not list(needs({"optim": o}, ParallelSettings()))}
    assert plain == {"adafactor", "adagrad", "adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"}


def test_a_package_that_is_not_there_is_named_before_training(
    grpo: Callable[..., TrainResult], sft: Callable[..., TrainResult]
) -> None:
    with pytest.raises(UserError, match="train.use_liger_kernel: needs liger-kernel"):
        sft("a", use_liger_kernel=True)
    with pytest.raises(UserError, match="train.optim adamw_8bit: needs bitsandbytes"):
        grpo("b", optim="adamw_8bit")


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"kind": "single", "processes": 2}, "kind single is one process, processes is 2"),
        ({"kind": "ddp", "offload": "optimizer"}, "offload optimizer is not for kind ddp; choose zero2 or zero3"),
        ({"kind": "zero2", "offload": "all"}, "offload all is not for kind zero2; choose zero3 or fsdp2"),
    ],
)
def test_settings_that_cannot_be_are_refused(block: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ParallelSettings.model_validate(block)


def test_the_batch_of_all_processes_must_hold_whole_groups() -> None:
    from openr1.train.check import train_problems

    train = GRPO_TRAIN | {"per_device_train_batch_size": 3, "num_generations": 4}
    assert train_problems("grpo", train, 4) == []
    assert any("3 x 2 processes = 6" in line for line in train_problems("grpo", train, 2))
