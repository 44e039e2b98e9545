"""DeepSpeed on two CPU processes: the losses of one, whatever is shared out; and a resume that goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import parallel_helpers as run
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed: make setup-deepspeed"),
]
CLOSE = 1e-4  # the gradients are added, and the parameters updated, in another order and in parts
STAGES = {
    f"{kind}_{name}": (kind, parallel, count, batch // count)
    for kind, batch in (("sft", 8), ("grpo", 12))
    for name, parallel, count in (("one", "single", 1), ("zero2", "zero2", 2), ("zero3", "zero3", 2))
}


@pytest.fixture(scope="module", autouse=True)
def rewards_of_the_tests() -> Iterator[None]:
    """The ranks import the rewards of `train_helpers`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(run.__file__).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, rewards_of_the_tests: None) -> Path:
    folder = run.project(tmp_path_factory.mktemp("zero"), STAGES)
    for name in ("prompts", "base", *STAGES):
        run.stage(folder, name)
    return folder


@pytest.mark.parametrize("stage", [name for name in STAGES if not name.endswith("one")])
def test_two_processes_learn_what_one_learns(pairs: Path, stage: str) -> None:
    kind, parallel = stage.split("_")
    for name in ("loss", "grad_norm", "entropy", "learning_rate", "tokens"):
        expected = run.column(pairs, f"{kind}_one", name)
        assert run.column(pairs, stage, name) == pytest.approx(expected, abs=CLOSE, rel=CLOSE), name
    before, after = run.weights(pairs, f"{kind}_one"), run.weights(pairs, stage)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.allclose(after[name], atol=1e-3), name
    ran = run.manifest(pairs, stage)["results"]["parallel"]
    assert (ran["kind"], ran["processes"], ran["device"]) == (parallel, 2, "cpu")


@pytest.mark.parametrize("parallel", ["zero2", "zero3"])
def test_rollouts_are_those_of_one_process(pairs: Path, parallel: str) -> None:
    one, two = run.completions(pairs, "grpo_one"), run.completions(pairs, f"grpo_{parallel}")
    for name in ("prompt_id", "sample_index", "completion", "total", "reward"):
        assert two[name].equals(one[name]), name


@pytest.mark.parametrize("stage", ["sft_zero2", "grpo_zero3"])
def test_a_resumed_stage_ends_as_one_that_was_never_ended(pairs: Path, tmp_path: Path, stage: str) -> None:
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    for name in ("checkpoint-3", "model"):
        shutil.rmtree(folder / "runs/run" / stage / name)
    run.stage(folder, stage)
    assert run.column(folder, stage, "loss") == pytest.approx(run.column(pairs, stage, "loss"), rel=1e-6)
    after = run.weights(folder, stage)
    for name, tensor in run.weights(pairs, stage).items():
        assert tensor.allclose(after[name], atol=1e-6), name
