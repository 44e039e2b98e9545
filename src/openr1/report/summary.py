"""The report as data: the JSON of `openr1 run`. Every other form of the report is drawn from this and the run."""

from __future__ import annotations

from typing import Any

from openr1.report.cost import cost_of_model
from openr1.report.load import Run, Stage
from openr1.report.numbers import finite

EVALUATION_FIELDS = (
    "greedy", "sampled", "pass_at", "cons", "format", "response_tokens", "truncated", "no_answer", "by_status",
    "reflection", "language", "verifier", "prompt_hash",
)  # fmt: skip
PHASES = ("generate", "grade", "train")


def summarise(run: Run) -> dict[str, Any]:
    """The run as plain JSON values: models, stages, time, versions. Warnings are added by `warnings.warnings_of`."""
    manifests = run.manifests()
    first = manifests[0] if manifests else None
    gpu_hours, price = sum(m.gpu_hours for m in manifests), price_per_gpu_hour(run)
    return {
        "run": run.name,
        "recipe": run.recipe,
        "seed": run.seed,
        "complete": bool(run.stages) and all(s.done for s in run.stages),
        "models": models_of(run),
        "stages": [stage_entry(s) for s in run.stages],
        "seconds": sum(m.seconds for m in manifests),
        "total_seconds": sum(m.total_seconds or m.seconds for m in manifests),
        "gpu_hours": gpu_hours,
        "usd": gpu_hours * price if price else None,
        "command": first.command if first else [],
        "host": first.host if first else "",
        "versions": _union(m.versions for m in manifests),
        "git": next((m.git for m in manifests if m.git), None),
    }


def price_per_gpu_hour(run: Run) -> float | None:
    """What the run's site takes for an hour of a GPU (USD); None where it says nothing."""
    cluster = run.config.get("cluster")
    return (finite(cluster.get("price_per_gpu_hour")) or None) if isinstance(cluster, dict) else None


def stage_entry(stage: Stage) -> dict[str, Any]:
    """One entry of `stages`."""
    entry: dict[str, Any] = {
        "stage": stage.name,
        "kind": stage.kind or (stage.manifest.kind if stage.manifest else ""),
        "status": stage.status,
        "inputs": stage.inputs,
    }
    m = stage.manifest
    if m is None:
        return entry | {"problem": stage.problem}
    return entry | {
        "attempts": m.attempt,
        "seconds": m.seconds,
        "total_seconds": m.total_seconds or m.seconds,
        "gpu_hours": m.gpu_hours,
        "peak_memory_mb": m.peak_memory_mb,
        "counts": m.counts,
        "tokens": m.tokens,
        "phases": m.phases,
        "flops": finite(m.results.get("flops")),
        "outputs": {name: {k: v for k, v in out.items() if k != "path"} for name, out in _dicts(m.outputs).items()},
        "exit": m.exit,
        "problem": None,
    }


def models_of(run: Run) -> dict[str, dict[str, Any]]:
    """One entry for every model that a finished evaluate stage measured, in the recipe's order.

    `tokens`, `seconds` and `flops` are those of the stage that made the model, `total_…` add every stage it rests on,
    and `evaluation` holds what measuring it cost. All three are null for a model made outside the run.
    """
    models: dict[str, dict[str, Any]] = {}
    for stage in run.stages:
        if not stage.done or "greedy" not in stage.results and "sampled" not in stage.results:
            continue
        name = str(stage.results.get("model") or stage.name)
        models[name if name not in models else stage.name] = _model_entry(run, stage)
    return models


def _model_entry(run: Run, stage: Stage) -> dict[str, Any]:
    maker = run.maker(stage)
    entry = {k: stage.results.get(k) for k in EVALUATION_FIELDS if k in stage.results}
    entry |= {"evaluated_by": stage.name, "made_by": maker.name if maker else None}
    cost = cost_of_model(run, maker)
    entry |= {k: cost["own"][k] for k in ("tokens", "seconds", "flops")}
    entry |= {f"total_{k}": cost["total"][k] for k in ("tokens", "seconds", "flops")}
    entry["cost"] = cost
    entry["evaluation"] = {k: stage.results.get(k) for k in ("tokens", "seconds", "flops")}
    if maker is not None and maker.results.get("parameters"):
        entry["parameters"] = maker.results["parameters"]
    return entry


def phases_of(stage: Stage) -> dict[str, float]:
    """Seconds of a stage by phase; `other` is what no phase accounts for, set-up mostly."""
    if stage.manifest is None:
        return {}
    total = stage.manifest.total_seconds or stage.manifest.seconds
    phases = {k: v for k, v in stage.manifest.phases.items() if finite(v)}
    other = total - sum(phases.values())
    return phases | ({"other": other} if other > 0 else {})


def _union(dicts: Any) -> dict[str, str]:
    out: dict[str, str] = {}
    for d in dicts:
        for key, value in (d or {}).items():
            seen = out.get(key)
            out[key] = value if seen in (None, value) else f"{seen}, {value}" if value not in seen else seen
    return out


def _dicts(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in value.items() if isinstance(v, dict)}
