"""GPUs are counted in one place, and CUDA_VISIBLE_DEVICES chooses among them for the trainer and for vLLM alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openr1.engines.vllm_program import visible_gpus
from openr1.launch import hardware


@pytest.mark.parametrize(
    ("named", "ids"),
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("-1", []),
        ("2,0", ["2", "0"]),
        ("GPU-333,GPU-000-abc", ["GPU-333", "GPU-000-abc"]),
        ("1, 9, 2", ["1"]),  # CUDA stops at the first that is not there
        ("MIG-aaa,MIG-bbb", ["MIG-aaa", "MIG-bbb"]),
    ],
)
def test_who_may_use_which(
    nvidia_smi: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, named: str | None, ids: list[str]
) -> None:
    nvidia_smi(4)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == ids and hardware.gpu_count() == len(ids)
    known = [i for i in ids if not i.startswith("MIG")]
    assert hardware.gpu_memory() == [("NVIDIA H100 80GB HBM3", 81559 / 1024)] * len(known)


def test_a_machine_without_nvidia_smi_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # as Slurm says it for GPUs that are stand-ins
    assert visible_gpus() == hardware.gpus() == []
