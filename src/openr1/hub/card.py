"""Cards from manifests: README.md with YAML front matter, for a dataset and for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openr1.hub.layout import Splits, config_entries
from openr1.hub.licences import Origin
from openr1.hub.merge import BEGIN, END, write_card
from openr1.hub.story import benchmarks_of, benchmarks_table, scores_section, story
from openr1.report.document import Cell, Column, Section, Table
from openr1.report.load import Run, Stage
from openr1.report.markdown import escape, render
from openr1.report.numbers import finite, integer
from openr1.report.summary import models_of

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
ABOUT = {
    "default": "Problems of which at least one generation was kept, with every generation and its verdict",
    "all": "Every problem with all its generations and their verdicts",
    "sft": "Kept generations as conversations, for supervised fine-tuning",
    "rl": "Prompts with answer, verifier and measured pass rate, for reinforcement learning",
    "prompts": "Prompts with answer and verifier",
}


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>10M")


def dataset_card(
    run: Run,
    stage: Stage,
    repo: str,
    configs: Mapping[str, Splits],
    origins: Sequence[Origin],
    licence: str,
    personal: Mapping[str, int],
) -> str:
    """`configs`: rows by config and split; the first config is the default one."""
    front: dict[str, Any] = {
        "license": licence,
        "pretty_name": repo.split("/")[1],
        "task_categories": ["text-generation"],
        "tags": ["openr1", "reasoning", "synthetic"],
        "size_categories": [size_category(max((sum(s.values()) for s in configs.values()), default=0))],
    }
    sources = list(dict.fromkeys(o.id for o in origins if o.kind == "dataset"))
    if sources:
        front["source_datasets"] = sources
    front["configs"] = config_entries(configs)
    first = next(iter(configs))
    lead = (
        f"Made by stage `{stage.name}` ({stage.kind}) of the openr1 run `{run.name}`, recipe `{run.recipe}`. Load it "
        f'with `load_dataset("{repo}", "{first}")`.'
    )
    sections = [Section("configs", "Configs", [_configs_table(stage, configs)]), *story(run, stage, origins, personal)]
    return _write(front, repo, [_about(run), lead], sections)


def _configs_table(stage: Stage, configs: Mapping[str, Splits]) -> Table:
    rows: list[list[Cell | str]] = []
    for name, splits in configs.items():
        kind = "prompts" if stage.kind == "prompts" else next((k for k in ABOUT if name.endswith(k)), "")
        for split, n in splits.items():
            rows.append([Cell(f"`{name}`"), f"`{split}`", integer(n), ABOUT.get(kind, "")])
    return Table([Column("Config"), Column("Split"), Column("Rows", True), Column("What it holds")], rows)


def model_card(
    run: Run,
    stage: Stage,
    repo: str,
    origins: Sequence[Origin],
    licence: str,
    personal: Mapping[str, int],
    step: int | None = None,
) -> str:
    """The card of the model that `stage` made, or of its checkpoint at `step`, with the evaluations of it."""
    front: dict[str, Any] = {
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["openr1", "reasoning", stage.kind],
    }
    for key, kind in (("base_model", "model"), ("datasets", "dataset")):
        ids = list(dict.fromkeys(o.id for o in origins if o.kind == kind))
        if ids:
            front[key] = ids
    measured = {} if step else {n: e for n, e in models_of(run).items() if e["made_by"] == stage.name}
    benchmarks = {} if step else benchmarks_of(run, stage)
    index = _model_index(repo, measured, benchmarks)
    if index:
        front["model-index"] = index
    parameters = stage.results.get("parameters")
    size = f" It has {integer(parameters)} parameters." if parameters else ""
    which = f"Checkpoint of step {step} of" if step else "Made by"
    lead = (
        f"{which} stage `{stage.name}` ({stage.kind}) of the openr1 run `{run.name}`, recipe `{run.recipe}`.{size} "
        "The chat template is that of the tokenizer in this repository."
    )
    none = "This run holds no finished evaluation of it."
    sections = [scores_section(measured, none, benchmarks=benchmarks_table(benchmarks))]
    return _write(front, repo, [_about(run), lead], [*sections, *story(run, stage, origins, personal)])


def _model_index(
    repo: str, measured: Mapping[str, Mapping[str, Any]], benchmarks: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The evaluations in the form that the Hub reads."""
    results: list[dict[str, Any]] = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": name, "type": name},
            "metrics": [{"type": "accuracy", "name": "accuracy", "value": round(float(score["accuracy"]), 6)}],
        }
        for name, score in benchmarks.items()
        if finite(score.get("accuracy")) is not None
    ]
    for entry in measured.values():
        for mode in ("greedy", "sampled"):
            found = entry.get(mode) or {}
            if finite(found.get("accuracy")) is None:
                continue
            metric = {"type": "accuracy", "name": f"accuracy ({mode})", "value": round(float(found["accuracy"]), 6)}
            data = {"name": f"{entry['evaluated_by']} of the run", "type": str(entry["evaluated_by"])}
            results.append({"task": {"type": "text-generation"}, "dataset": data, "metrics": [metric]})
    return [{"name": repo.split("/")[1], "results": results}] if results else []


def _about(run: Run) -> str:
    """The recipe's own description of itself."""
    return str(run.config.get("description") or "")


def _write(front: Mapping[str, Any], repo: str, leads: Sequence[str], sections: Sequence[Section]) -> str:
    parts = [escape(lead) for lead in leads]
    for section in sections:
        parts += [f"## {section.title}", *(render(b) for b in section.blocks)]
    body = "\n\n".join(p for p in parts if p)
    return write_card(front, f"# {escape(repo.split('/')[1])}\n\n{BEGIN}\n\n{body}\n\n{END}")
