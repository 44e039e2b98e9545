"""Write the folder that would be uploaded: files, card, provenance; scanned as a whole before it appears."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from openr1.errors import OutsideError, UserError
from openr1.hub.card import dataset_card, model_card
from openr1.hub.scan import scan_folder
from openr1.hub.select import choose_stage, publishable
from openr1.hub.settings import RepoType, repo_problem
from openr1.manifest import hash_file, replace_dir, write_atomic, write_json
from openr1.report.load import Run, Stage, load_run

CARD, PROVENANCE = "README.md", "provenance.json"
MOST_FINDINGS = 20
# what a model needs to be loaded; anything else in its folder (pickles, optimizer states, logs) stays at home
MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".jinja", ".model", ".txt"})


@dataclass(frozen=True)
class PublishFile:
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PublishPlan:
    """What would be sent: every file of `folder`. `rows` are those of each config of a dataset."""

    repo: str
    type: RepoType
    stage: str
    folder: str
    files: list[PublishFile]
    rows: dict[str, int]
    bytes: int


def publish_folder(run_dir: Path, stage: str | None, repo_id: str, type: RepoType, out_dir: Path) -> PublishPlan:
    """Write what `repo_id` would receive into `out_dir` and describe it; nothing is sent.

    Raises UserError for a bad id, no or several stages to choose from, or anything in the files that must not leave
    (each named, secrets masked); `out_dir` is then left as it was.
    """
    problem = repo_problem(repo_id)
    if problem:
        raise UserError(problem)
    run = load_run(run_dir)
    chosen = choose_stage(run, stage, type)
    with _aside(out_dir) as aside:
        rows = _write_dataset(run, chosen, repo_id, aside) if type == "dataset" else {}
        if type == "model":
            _write_model(run, chosen, repo_id, aside)
        write_json(aside / PROVENANCE, provenance(run, chosen, repo_id, type, _files(aside)))
        _refuse_findings(aside)
        files = _files(aside)
        replace_dir(aside, out_dir)
    return PublishPlan(repo_id, type, chosen.name, str(out_dir), files, rows, sum(f.bytes for f in files))


@contextmanager
def _aside(out_dir: Path) -> Iterator[Path]:
    """An empty folder beside `out_dir`, gone when the block fails."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    aside = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
    except OSError as e:
        raise OutsideError(f"cannot write {out_dir}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_dataset(run: Run, stage: Stage, repo: str, folder: Path) -> dict[str, int]:
    """data/<config>-00000-of-0000N.parquet for every config, and the card; returns rows by config."""
    rows: dict[str, int] = {}
    (folder / "data").mkdir()
    for name, output in publishable(stage, "dataset").items():
        parts = sorted((stage.folder / str(output["path"])).glob("*.parquet"))
        if not parts:
            raise UserError(f"{stage.folder / str(output['path'])}: holds no Parquet file; run {stage.name} again")
        count = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)
        if count == 0:
            continue  # a config without rows cannot be loaded
        for i, part in enumerate(parts):
            shutil.copyfile(part, folder / "data" / f"{name}-{i:05d}-of-{len(parts):05d}.parquet")
        rows[name] = count
    if not rows:
        raise UserError(f"stage {stage.name} of run {run.name} has no rows to publish")
    write_atomic(folder / CARD, dataset_card(run, stage, repo, rows))
    return rows


def _write_model(run: Run, stage: Stage, repo: str, folder: Path) -> None:
    """The files that loading the model needs, and the card."""
    (output,) = publishable(stage, "model").values()
    source = stage.folder / str(output["path"])
    if not (source / "config.json").is_file():
        raise UserError(f"{source}: holds no model (config.json is missing); run {stage.name} again")
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in MODEL_SUFFIXES and file.name != PROVENANCE:
            shutil.copyfile(file, folder / file.name)
    write_atomic(folder / CARD, model_card(run, stage, repo))


def provenance(run: Run, stage: Stage, repo: str, type: RepoType, files: list[PublishFile]) -> dict[str, Any]:
    """Where every file comes from: the stages it rests on, with settings, hashes and versions; no host, no paths."""
    stages = []
    for one in run.lineage(stage.name):
        m = one.manifest
        if m is not None:
            stages.append(
                {
                    "stage": one.name,
                    "kind": m.kind,
                    "key": m.key,
                    "inputs": m.inputs,
                    "settings": m.settings,
                    "outputs": m.outputs,
                    "counts": m.counts,
                    "tokens": m.tokens,
                    "results": m.results,
                    "seconds": m.total_seconds or m.seconds,
                    "gpu_hours": m.gpu_hours,
                    "versions": m.versions,
                    "git": m.git,
                }
            )
    record = {
        "repo": repo,
        "type": type,
        "run": run.name,
        "recipe": run.recipe,
        "seed": run.seed,
        "stage": stage.name,
        "files": {f.path: {"bytes": f.bytes, "sha256": f.sha256} for f in files if f.path != PROVENANCE},
        "stages": stages,
    }
    return _without_home(record)


def _without_home(value: Any) -> Any:
    """`value` with the home folder written as ~ in every string: where a file lay here helps nobody else."""
    if isinstance(value, dict):
        return {k: _without_home(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_home(v) for v in value]
    home = str(Path.home())
    return value.replace(home + "/", "~/") if isinstance(value, str) and len(home) > 1 else value


def _files(folder: Path) -> list[PublishFile]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return [PublishFile(p.relative_to(folder).as_posix(), p.stat().st_size, hash_file(p)) for p in found]


def _refuse_findings(folder: Path) -> None:
    findings = scan_folder(folder)
    if not findings:
        return
    lines = [str(f) for f in findings[:MOST_FINDINGS]]
    if len(findings) > MOST_FINDINGS:
        lines.append(f"and {len(findings) - MOST_FINDINGS:,} more of the kind")
    lines.append("nothing was written: take these out of the stage's data (or of its settings) and publish again")
    raise UserError(*lines)
