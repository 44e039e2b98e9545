"""Where the time of a training step goes: seconds by phase, tokens a second, idle share, and MFU on GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from openr1.train.account import training_flops

PHASES = ("generate", "grade", "wait", "sync")  # what a step measures; `train` is the rest of it
IDLE = ("grade", "wait", "sync")

# dense bf16 (fp16 before Ampere) tensor-core FLOPs a second, as NVIDIA's data sheets have them; a name is
# matched by the first key that is in it as a word
PEAK_FLOPS: dict[str, float] = {
    "GB200": 2250e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 150e12,
    "A6000": 155e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
    "T4": 65e12,
}


def peak_flops(name: str) -> float | None:
    """Dense bf16 FLOPs a second of a GPU by its name; None for one that the table has not."""
    return next((flops for key, flops in PEAK_FLOPS.items() if re.search(rf"\b{key}\b", name)), None)


def gpu_peak() -> float | None:
    """`peak_flops` of this process's GPU, None without one."""
    return peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


@dataclass(frozen=True)
class Profiler:
    """Turns seconds and tokens into rates. `parameters` are those that FLOPs count, `peak` is one processor's.

    With `sampler_elsewhere` the trainer's processors are idle while completions are drawn (vLLM on other GPUs).
    """

    parameters: int
    processes: int = 1
    peak: float | None = None
    sampler_elsewhere: bool = False

    def rates(self, seconds: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, float]:
        """Of a step or a stage; what cannot be told is left out. `seconds` by phase, `train` among them."""
        whole = sum(seconds.get(phase, 0.0) for phase in (*PHASES, "train"))
        if whole <= 0:
            return {}
        idle = (*IDLE, "generate") if self.sampler_elsewhere else IDLE
        found = {
            "trained_tokens_per_second": tokens.get("trained", 0) / whole,
            "idle_share": sum(seconds.get(phase, 0.0) for phase in idle) / whole,
        }
        if seconds.get("generate", 0.0) > 0:
            found["rollout_tokens_per_second"] = tokens.get("generated", 0) / seconds["generate"]
        if self.peak is not None:
            drawn = {} if self.sampler_elsewhere else {k: tokens.get(k, 0) for k in ("generated", "prompt")}
            flops = training_flops(self.parameters, tokens.get("trained", 0), **drawn)
            found["mfu"] = flops / (whole * self.peak * self.processes)
        return found

    def summary(self, seconds: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, Any]:
        """The rates of a whole stage, for its manifest; None for what cannot be told."""
        rates = self.rates(seconds, tokens)
        names = ("trained_tokens_per_second", "rollout_tokens_per_second", "idle_share", "mfu")
        return {name: round(rates[name], 6) if name in rates else None for name in names}
