"""Whether a site can carry a recipe: GPUs, memory of every process, disk. Told before anything is loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openr1.config.cluster import ClusterSettings
from openr1.config.fit import model_of
from openr1.config.recipe import Recipe
from openr1.engines.settings import VLLMSettings
from openr1.launch import hardware
from openr1.models.settings import ModelSettings
from openr1.models.size import Shape, lacking, shape_of
from openr1.stages.settings import BenchmarkStage, EvaluateStage, GenerateStage, GRPOStage, SFTStage, StageSettings
from openr1.train.adapters import quantize_problem
from openr1.train.available import unavailable
from openr1.train.memory import (
    GIB,
    Memory,
    checkpoint_bytes,
    colocate_needs,
    generation_memory,
    training_memory,
)

COLUMNS = ("weights", "gradients", "optimizer", "activations")


@dataclass(frozen=True)
class Site:
    """What a cluster has, or this machine: `gpus` a node (0: none), GiB of one GPU, GiB of memory of this machine."""

    name: str
    nodes: int
    gpus: int
    gpu: str | None
    gpu_gib: float | None
    host_gib: float | None

    @classmethod
    def of(cls, cluster: ClusterSettings) -> Site:
        """A Slurm site as it is stated; for a local one, what is found fills in what is not."""
        found = [] if cluster.kind == "slurm" else hardware.gpu_memory()
        gpus = cluster.gpus_per_node if cluster.gpus_per_node is not None else len(found)
        gpu = cluster.gpu or (found[0][0] if found else None)
        gib = cluster.gpu_memory_gib or (min(gib for _, gib in found) if found else None)
        host = hardware.memory_gib() if cluster.kind == "local" else None
        return cls(cluster.name, cluster.nodes, gpus, gpu, gib if gpus else None, host)


@dataclass
class Capacity:
    """What was found: what is not there (devices), what will not fit (problems, an estimate), what could not be told,
    and a row a stage with its memory in GiB."""

    devices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The table for people."""
        if not self.rows:
            return []
        head = f"  {'memory of a process, GiB':<26}" + "".join(f"{c:>12}" for c in (*COLUMNS, "other", "total", "of"))
        return [head, *(_line(row) for row in self.rows)]


def capacity(recipe: Recipe, folder: Path, only: Sequence[str] = ()) -> Capacity:
    """Everything that can be told of the stages (all, or `only` some) on the recipe's cluster."""
    site, found = Site.of(recipe.cluster), Capacity()
    meant = "" if not recipe.clusters or site.name in recipe.clusters else _meant(recipe.clusters)
    for name in recipe.order():
        if only and name not in only:
            continue
        settings = recipe.stages[name]
        wrong = [f"stages.{name}.resources: {p}{meant}" for p in _device_problems(settings, site)]
        found.devices += wrong
        found.devices += [f"stages.{name}: {p}{meant}" for p in _lacking_here(settings, site) if not wrong]
        if not wrong:
            _memory(found, recipe, name, settings, site, meant)
    if not found.devices:
        _disk(found, recipe, folder, only)
    return found


def _lacking_here(settings: StageSettings, site: Site) -> list[str]:
    """What training wants and this machine, or a GPU-less stage, has not; another site's packages cannot be seen."""
    if not isinstance(settings, SFTStage | GRPOStage):
        return []
    if site.host_gib is not None:
        return unavailable(settings.train, settings.parallel, bool(site.gpus))
    return unavailable(settings.train, settings.parallel, settings.resources.gpus > 0, has=lambda module: True)


def _meant(clusters: Sequence[str]) -> str:
    return f"; this recipe is meant for cluster={' or '.join(clusters)}"


def _device_problems(settings: StageSettings, site: Site) -> list[str]:
    """GPUs and nodes that the stage asks for and the site has not."""
    gpus, nodes = settings.resources.gpus, settings.resources.nodes
    if gpus and not site.gpus:
        return [f"needs {gpus} GPU{'s' * (gpus > 1)}, cluster {site.name} has none"]
    found = []
    if gpus > site.gpus:
        found.append(f"needs {gpus} GPUs on a node, cluster {site.name} has {site.gpus}")
    if nodes > site.nodes and gpus:
        found.append(f"needs {nodes} nodes, cluster {site.name} has {site.nodes}")
    lora = getattr(settings, "lora", None)
    if lora is not None and site.host_gib is not None and (why := quantize_problem(lora.quantize, bool(site.gpus))):
        found.append(why)
    return found


# ----------------------------------------------------------------------------------------------------------- memory
def _memory(found: Capacity, recipe: Recipe, name: str, settings: StageSettings, site: Site, meant: str) -> None:
    if not isinstance(settings, SFTStage | GRPOStage | GenerateStage | EvaluateStage | BenchmarkStage):
        return
    model = model_of(recipe.stages, name)
    if model is None:
        return
    shape = shape_of(model)
    if shape is None:
        facts = ", ".join(lacking(model))
        found.not_checked.append(f"{name}: memory; the model's facts {facts} are not stated")
        return
    gib = site.gpu_gib if settings.resources.gpus or site.host_gib is not None else None
    if gib is None and site.host_gib is None:
        found.not_checked.append(f"{name}: memory; nothing is known of the memory of {site.name}'s hosts")
        return
    memory = _estimate(settings, model, shape, gib)
    if memory is None:
        return
    limit, where, count = _limit(settings, site, gib)
    found.rows.append(_row(name, memory, limit, gib is not None))
    if memory.total * count > limit:
        found.problems.append(f"stages.{name}: {_too_much(memory, count, limit, where)}{meant}")
    elif why := _vllm_problem(settings, shape, model, gib):
        found.problems.append(f"stages.{name}.train: {why}{meant}")


def _estimate(settings: StageSettings, model: ModelSettings, shape: Shape, gib: float | None) -> Memory | None:
    dtype = model.dtype or "bfloat16"
    if isinstance(settings, SFTStage | GRPOStage):
        dtype = (settings.train.get("model_init_kwargs") or {}).get("dtype") or dtype
        kind, train = settings.kind, settings.train
        if isinstance(settings, GRPOStage):
            train = train | {"max_completion_length": settings.longest()}
        return training_memory(
            kind, shape, train, settings.parallel, settings.world_size,
            context=model.context, dtype=dtype, gpu_gib=gib, lora=settings.lora,
        )  # fmt: skip
    assert isinstance(settings, GenerateStage | EvaluateStage | BenchmarkStage)
    if isinstance(settings, BenchmarkStage):  # one after another: the longest replies take most
        drawn = [settings.sampling_of(name) for name in settings.benchmarks]
        sampling = max(drawn, key=lambda s: s.max_new_tokens)
    else:
        sampling = settings.sampling
    return generation_memory(shape, settings.engine, sampling, context=model.context, dtype=dtype, gpu_gib=gib)


def _limit(settings: StageSettings, site: Site, gib: float | None) -> tuple[float, str, int]:
    """(GiB that there are, where, processes that share them)."""
    engine = getattr(settings, "engine", None)
    if gib is None:
        return float(site.host_gib or 0), "this machine", getattr(settings, "world_size", 1)
    name = f"a GPU of {site.name}" + (f" ({site.gpu})" if site.gpu else "")
    if isinstance(engine, VLLMSettings):
        return gib * engine.gpu_memory_utilization, f"vLLM's share of {name}", 1
    return gib, name, 1


def _too_much(memory: Memory, count: int, limit: float, where: str) -> str:
    parts = sorted(memory.parts.items(), key=lambda item: -item[1])[:3]
    most = ", ".join(f"{part} {gib:.3g}" for part, gib in parts)
    times = f" x {count} processes" if count > 1 else ""
    return f"memory: about {memory.total:.3g} GiB{times} ({most}; {memory.notes[0]}), {where} has {limit:.3g}"


def _vllm_problem(settings: StageSettings, shape: Shape, model: ModelSettings, gib: float | None) -> str | None:
    """vLLM beside the trainer gets a share of the GPU, which has to hold the model once more."""
    if not isinstance(settings, GRPOStage) or not settings.train.get("use_vllm") or gib is None:
        return None
    if settings.train.get("vllm_mode", "colocate") != "colocate":
        return None
    share = float(settings.train.get("vllm_gpu_memory_utilization") or 0.3)
    needs = colocate_needs(shape, settings.train, model.context)
    if needs <= share * gib:
        return None
    return (
        f"vllm_gpu_memory_utilization: memory: {share:g} of {gib:.3g} GiB is {share * gib:.3g}, vLLM needs about "
        f"{needs:.3g} for the model and one sequence; raise it, or raise vllm_tensor_parallel_size"
    )


def _row(name: str, memory: Memory, limit: float, gpu: bool) -> dict[str, Any]:
    parts = {k: round(v, 3) for k, v in memory.parts.items()}
    total = round(memory.total, 3)
    return {
        "stage": name,
        "device": "gpu" if gpu else "cpu",
        "parts": parts,
        "total": total,
        "of": round(limit, 3),
        "notes": list(memory.notes),
    }


def _line(row: dict[str, Any]) -> str:
    shown = [row["parts"].get(c, 0.0) for c in COLUMNS]
    numbers = [*shown, row["total"] - sum(shown), row["total"], row["of"]]
    text = "".join(f"{n:>12.1f}" if n >= 0.05 else f"{'-' if n <= 0 else '<0.1':>12}" for n in numbers)
    return f"  {row['stage']:<26}{text}   {row['notes'][0]}"


# ------------------------------------------------------------------------------------------------------------- disk
def _disk(found: Capacity, recipe: Recipe, folder: Path, only: Sequence[str]) -> None:
    """Checkpoints that are kept, one that is being written, and the final models, against the free space here."""
    total = 0.0
    for name, settings in recipe.stages.items():
        if (only and name not in only) or not isinstance(settings, SFTStage | GRPOStage):
            continue
        model = model_of(recipe.stages, name)
        shape = shape_of(model) if model is not None else None
        if model is None or shape is None:
            continue
        gpu = settings.resources.gpus > 0
        dtype = model.dtype or "bfloat16"
        one = checkpoint_bytes(shape, settings.parallel, dtype, gpu, settings.lora)
        total += one * ((settings.train.get("save_total_limit") or 1) + 1) + shape.parameters * (2 if gpu else 4)
    if not total:
        return
    needs = total / GIB
    if recipe.cluster.kind != "local":
        found.not_checked.append(f"disk: checkpoints and models take about {needs:,.0f} GiB where {folder} lies")
        return
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free / GIB
    if needs > free and os.access(there, os.W_OK):
        found.problems.append(
            f"disk: checkpoints and models take about {needs:,.1f} GiB, {there} has {free:,.1f} free; lower "
            "train.save_total_limit, or set OPENR1_RUNS to a larger disk"
        )
