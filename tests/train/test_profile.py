"""Rates of a step: idle share, tokens a second, MFU against the table of GPUs."""

from __future__ import annotations

import pytest

from openr1.train.profile import Profiler, peak_flops

SECONDS = {"generate": 4.0, "grade": 1.0, "wait": 1.0, "sync": 2.0, "train": 2.0}
TOKENS = {"trained": 1000, "generated": 800, "prompt": 200}


def test_rates_by_hand() -> None:
    found = Profiler(parameters=10, processes=2, peak=1000.0).rates(SECONDS, TOKENS)
    assert found["idle_share"] == pytest.approx(0.4)
    assert found["trained_tokens_per_second"] == pytest.approx(100)
    assert found["rollout_tokens_per_second"] == pytest.approx(200)
    assert found["mfu"] == pytest.approx((6 * 10 * 1000 + 2 * 10 * 1000) / (10 * 1000 * 2))


def test_with_a_sampler_on_other_gpus_the_trainer_is_idle_meanwhile() -> None:
    found = Profiler(parameters=10, peak=1000.0, sampler_elsewhere=True).rates(SECONDS, TOKENS)
    assert found["idle_share"] == pytest.approx(0.8)
    assert found["mfu"] == pytest.approx(6 * 10 * 1000 / (10 * 1000))


def test_what_cannot_be_told_is_null() -> None:
    summary = Profiler(parameters=10).summary({"train": 2.0}, {"trained": 10})
    assert summary == {
        "trained_tokens_per_second": 5.0, "rollout_tokens_per_second": None, "idle_share": 0.0, "mfu": None
    }  # fmt: skip
    assert Profiler(parameters=10).summary({}, {})["idle_share"] is None


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GB200", 2250e12),
        ("Tesla T4", 65e12),
        ("NVIDIA T400 4GB", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_the_table_of_gpus(name: str, flops: float | None) -> None:
    assert peak_flops(name) == flops
