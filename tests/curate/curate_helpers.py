"""Made-up prompts, completions and verdicts, and a curate stage run over them as the engine runs it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from openr1.curate.settings import CurateSettings
from openr1.metrics import MetricLog
from openr1.records import PROMPT_SCHEMA, Completion, Prompt, Verdict
from openr1.stages import curate as curate_stage
from openr1.stages.base import (
    PARTIAL,
    GradedRow,
    Input,
    StageContext,
    StageResult,
    completion_store,
    read_rows,
    verdict_store,
    write_rows,
)
from openr1.stages.settings import CurateStage

DEFAULT_STEPS: list[dict[str, Any]] = [
    {"step": "graded"},
    {"step": "correct"},
    {"step": "format", "form": "strict"},
    {"step": "same_text"},
    {"step": "select", "per_prompt": 2, "by": "shortest"},
    {"step": "pass_rate", "low": 0.0, "high": 1.0},
]


def prompt(question: str, task: str = "sum", verifier: str = "math", **metadata: Any) -> Prompt:
    return Prompt(task, [{"role": "user", "content": question}], "2", verifier, metadata=json.dumps(metadata))


@dataclass
class Data:
    """Rows to curate; `add` gives a prompt completions with their verdicts."""

    prompts: list[Prompt] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    statuses: dict[tuple[str, int], str] = field(default_factory=dict)

    def add(self, one: Prompt, *answers: tuple[str, str] | tuple[str, str, str]) -> Prompt:
        """`answers` are (text, status) or (text, status, finish reason)."""
        self.prompts.append(one)
        for i, (text, status, *reason) in enumerate(answers):
            finish: Any = reason[0] if reason else "stop"
            failed = "no answer of the server" if finish == "error" else None
            tokens = len(text.split())
            self.completions.append(Completion(one.prompt_id, i, text, finish, 5, tokens, i, error=failed))
            self.statuses[one.prompt_id, i] = status
        return one

    def verdicts(self) -> list[GradedRow]:
        return [
            GradedRow.of(key, Verdict(status, "2", "test", 0.0, "math", "1"))  # type: ignore[arg-type]
            for key, status in self.statuses.items()
        ]


@dataclass
class Curated:
    """What a stage said and wrote."""

    result: StageResult
    folder: Path

    def rows(self, output: str) -> list[dict[str, Any]]:
        return self.table(output).to_pylist()

    def table(self, output: str) -> pa.Table:
        return read_rows(self.folder / output)

    def chosen(self, output: str = "sft") -> list[tuple[str, int]]:
        return [(r["prompt_id"], r["sample_index"]) for r in self.rows(output)]

    def reasons(self, unit: str = "completion") -> dict[Any, str]:
        """Why each row went, by (prompt id, sample) or by prompt id."""
        rows = [r for r in self.rows("dropped") if r["unit"] == unit]
        return {
            (r["prompt_id"] if unit == "prompt" else (r["prompt_id"], r["sample_index"])): r["reason"] for r in rows
        }

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in sorted(self.folder.rglob("*.parquet"))}


def curated(
    folder: Path,
    data: Data,
    steps: Sequence[dict[str, Any]],
    *,
    seed: int = 0,
    valid: bool = True,
    commits: int = 1_000,
    inputs: Sequence[str] = ("data", "completions", "verdicts"),
) -> Curated:
    """Write `data` to stores, `commits` rows a commit, and curate it; not `valid`: any order of steps will do."""
    shutil.rmtree(folder, ignore_errors=True)
    write_rows(folder / "prompts", data.prompts, PROMPT_SCHEMA)
    with completion_store(folder / "completions", {}) as store:
        for start in range(0, len(data.completions), commits):
            store.append(data.completions[start : start + commits])
            store.seal()
    with verdict_store(folder / "verdicts", {}) as grades:
        grades.append(data.verdicts())
    settings = _settings(steps, seed, inputs, valid)
    where = {"data": "prompts", "completions": "completions", "verdicts": "verdicts"}
    read = {name: Input(name, folder / where[name], where[name], "") for name in inputs}
    log = MetricLog(folder / "metrics.jsonl")
    result = curate_stage.run(StageContext("run", "curate", folder / "curate", settings, read, log))
    return Curated(result, folder / "curate" / PARTIAL)


def _settings(steps: Sequence[dict[str, Any]], seed: int, inputs: Sequence[str], valid: bool) -> CurateStage:
    raw = {"kind": "curate", "seed": seed, "inputs": {name: f"a/{name}" for name in inputs}}
    if valid:
        return CurateStage.model_validate({**raw, "curate": {"steps": list(steps)}})
    made = [CurateSettings.model_validate({"steps": [s]}).steps[0] for s in steps]
    return CurateStage.model_construct(**{**raw, "curate": CurateSettings.model_construct(steps=made)})
