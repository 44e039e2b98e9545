"""Read a run directory: run.yaml, manifests, metric logs and samples. What is not there is None or empty."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from openr1.errors import UserError
from openr1.manifest import Manifest, load_manifest
from openr1.metrics import read_metrics

TRAINING_KINDS = frozenset({"sft", "grpo"})
SAMPLE_COLUMNS = (
    "prompt_id", "question", "gold", "mode", "sample_index", "completion", "finish_reason", "completion_tokens",
    "status", "score", "extracted", "decided_by",
)  # fmt: skip


@dataclass
class Stage:
    """One stage as the recipe names it and as its folder shows it. `is_control`: its rewards were shuffled."""

    name: str
    kind: str
    inputs: dict[str, str]
    folder: Path
    manifest: Manifest | None = None
    problem: str | None = None
    is_control: bool = False
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """done, failed, unfinished (begun, not ended: still at work or killed), not run, or unreadable."""
        if self.problem:
            return "unreadable"
        if self.manifest is None:
            return "not run"
        return "unfinished" if self.manifest.status == "running" else self.manifest.status

    @property
    def done(self) -> bool:
        return self.status == "done"

    @property
    def results(self) -> dict[str, Any]:
        return self.manifest.results if self.manifest else {}

    def upstream(self) -> list[str]:
        """Names of the stages that this one reads from."""
        return list(dict.fromkeys(str(source).split("/")[0] for source in self.inputs.values()))


@dataclass
class Run:
    """A run directory in memory."""

    folder: Path
    name: str
    recipe: str
    seed: int | None
    stages: list[Stage]
    config: dict[str, Any]

    def stage(self, name: str) -> Stage | None:
        return next((s for s in self.stages if s.name == name), None)

    def maker(self, stage: Stage) -> Stage | None:
        """The stage whose output `stage` has as its model, or None for a model from outside."""
        source = stage.inputs.get("model")
        return self.stage(str(source).split("/")[0]) if source else None

    def lineage(self, name: str) -> list[Stage]:
        """The stage `name` and every stage it rests on, in the recipe's order."""
        wanted, todo = set(), [name]
        while todo:
            current = self.stage(todo.pop())
            if current is not None and current.name not in wanted:
                wanted.add(current.name)
                todo.extend(current.upstream())
        return [s for s in self.stages if s.name in wanted]

    def manifests(self) -> list[Manifest]:
        return [s.manifest for s in self.stages if s.manifest is not None]


def load_run(folder: Path) -> Run:
    """The run in `folder`. Raises UserError where there is no readable run.yaml."""
    path = folder / "run.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no run.yaml here, so this is no run; give a name under runs/ or a path") from None
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(
            f"{path}: cannot be read ({' '.join(str(e).split())[:200]}); restore it, or start the run anew"
        ) from e
    if not isinstance(config, dict) or not isinstance(config.get("stages"), dict):
        raise UserError(f"{path}: holds no stages; restore it, or start the run anew")
    stages = [_load_stage(folder, str(name), entry or {}) for name, entry in config["stages"].items()]
    stages = [s for s in stages if s.manifest is not None or not _is_off(config["stages"][s.name])]
    return Run(
        folder=folder,
        name=folder.resolve().name,  # a copy goes by its own name
        recipe=str(config.get("recipe") or "unnamed"),
        seed=config.get("seed"),
        stages=stages,
        config=config,
    )


def _is_off(entry: dict[str, Any] | None) -> bool:
    """Whether a stage has nothing to do: one that publishes, and no repository is named."""
    return (entry or {}).get("kind") == "publish" and not (entry or {}).get("repo")


def _load_stage(run_folder: Path, name: str, entry: dict[str, Any]) -> Stage:
    stage = Stage(name, str(entry.get("kind", "")), dict(entry.get("inputs") or {}), run_folder / name)
    stage.is_control = bool(entry.get("shuffle_rewards"))
    try:
        stage.manifest = load_manifest(stage.folder)
    except UserError as e:
        stage.problem = str(e)
    stage.metrics = read_metrics(stage.folder / "metrics.jsonl")
    return stage


def load_benchmark_samples(stage: Stage, benchmark: str) -> list[dict[str, Any]]:
    """The graded samples of one benchmark of a benchmark stage, as they stand in its file; none where unreadable."""
    try:
        return pq.read_table(stage.folder / "samples" / f"{benchmark}.parquet").to_pylist()
    except (OSError, pa.ArrowInvalid):
        return []


def load_samples(stage: Stage) -> pa.Table | None:
    """The graded samples of an evaluate stage (SAMPLE_COLUMNS, nulls where one is missing), or None."""
    parts = sorted((stage.folder / "samples").glob("*.parquet"))
    tables = []
    for part in parts:
        try:
            table = pq.read_table(part)
        except (OSError, pa.ArrowInvalid):
            continue
        columns = {c: table[c] if c in table.column_names else pa.nulls(table.num_rows) for c in SAMPLE_COLUMNS}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="permissive") if tables else None
