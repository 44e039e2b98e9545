"""What this machine can do, and what stands in the way. Nothing here imports torch."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from openr1.config.recipe import Recipe
from openr1.errors import OpenR1Error
from openr1.launch import hardware
from openr1.launch.capacity import capacity
from openr1.launch.slurm.commands import ask
from openr1.launch.slurm.jobs import limit_text, whole_stage
from openr1.launch.slurm.site import Partition, describe, partitions, site_problems
from openr1.manifest import package_versions
from openr1.paths import cache_dir, runs_dir
from openr1.sandbox import tiers

TIMEOUT = 5.0


def examine() -> dict[str, Any]:
    """The findings, by subject: versions, devices, sandbox, slurm, hub, wandb, disk."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        hub = pool.submit(_reach, os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
        wandb = pool.submit(_reach, os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
        return {
            "versions": package_versions(),
            "devices": {
                "cores": hardware.cores(),
                "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
                "gpus": hardware.gpus(),
            },
            "sandbox": tiers.survey(),
            "slurm": _slurm(),
            "hub": {**hub.result(), "offline": os.environ.get("HF_HUB_OFFLINE") == "1"},
            "wandb": wandb.result(),
            "disk": {"runs_free_gb": _free(str(runs_dir())), "cache_free_gb": _free(str(cache_dir()))},
        }


def _reach(url: str) -> dict[str, Any]:
    """Whether an address answers within five seconds; any answer counts."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT) as answer:
            return {"url": url, "reachable": True, "status": answer.status}
    except urllib.error.HTTPError as e:
        return {"url": url, "reachable": True, "status": e.code}
    except (OSError, ValueError) as e:
        return {"url": url, "reachable": False, "reason": str(getattr(e, "reason", e))}


def _slurm() -> dict[str, Any]:
    if shutil.which("sinfo") is None:
        return {"available": False, "reason": "sinfo is not installed"}
    try:
        version = ask(["sinfo", "--version"]).strip()
    except OpenR1Error as e:
        return {"available": False, "reason": str(e)}
    try:
        found = partitions()
    except OpenR1Error as e:
        return {"available": False, "version": version, "reason": str(e)}
    return {"available": True, "version": version, "partitions": [_partition(p) for p in found.values()]}


def _partition(partition: Partition) -> str:
    state = ("" if partition.up else " (down)") + (" (default)" if partition.default else "")
    limit = limit_text(partition.minutes) if partition.minutes is not None else "no limit"
    return f"{partition.name}{state}: {limit}; {'; '.join(describe(nodes) for nodes in partition.nodes)}"


def against_site(recipe: Recipe) -> dict[str, Any]:
    """A recipe's jobs against what its cluster's Slurm says of itself: `jobs`, and why they would never run there."""
    site = recipe.cluster
    if site.kind != "slurm":
        found = capacity(recipe, runs_dir() / recipe.run)
        return {"cluster": site.name, "jobs": 0, "problems": found.devices + found.problems}
    jobs = [job for name in recipe.order() for job in whole_stage(recipe, name)]
    return {"cluster": site.name, "jobs": len(jobs), "problems": site_problems(jobs, site.gpu_type, partitions())}


def _free(path: str) -> float:
    """Free gigabytes of the disk that holds `path`, or will."""
    while not os.path.exists(path):
        path = os.path.dirname(os.path.abspath(path))
    return round(shutil.disk_usage(path).free / 1e9, 1)


def advice(found: dict[str, Any]) -> list[str]:
    """What a person may want to do about the findings."""
    lines = []
    if not found["devices"]["gpus"]:
        lines.append("no GPU: recipes tiny, tiny_short, tiny_r1 and local_example run on the CPU")
    if not found["hub"]["reachable"] and not found["hub"]["offline"]:
        lines.append("the Hub does not answer: set HF_HUB_OFFLINE=1 and use models and data on this disk")
    if found["sandbox"]["tier"] is None:
        lines.append(f"no sandbox works here, so no code can be graded: {tiers.HOW_TO_GET_ONE}")
    if found["disk"]["runs_free_gb"] < 5:
        lines.append(f"only {found['disk']['runs_free_gb']} GB are free for runs; set OPENR1_RUNS to a larger disk")
    return lines
