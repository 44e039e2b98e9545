"""Write the folder that would be uploaded: files, card, provenance; scanned as a whole before it appears."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openr1.errors import OutsideError, UserError
from openr1.hub.card import dataset_card, model_card
from openr1.hub.layout import Splits, link, write_dataset
from openr1.hub.licences import Origin, choose_licence, origins_of
from openr1.hub.provenance import provenance, without_paths
from openr1.hub.scan import HOME_PATH, Finding, Scan, scan_file, scan_folder
from openr1.hub.select import choose_stage, publishable
from openr1.hub.settings import Publication, RepoType
from openr1.manifest import replace_dir, write_atomic, write_json
from openr1.report.load import Run, Stage, load_run

CARD, PROVENANCE = "README.md", "provenance.json"
METRICS = "training_metrics.jsonl"
MOST_FINDINGS = 20
LARGEST_FILE = 50_000_000_000  # the Hub takes no larger one
# what a model needs to be loaded; anything else in its folder (pickles, optimizer states, logs) stays at home
MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".jinja", ".model", ".txt"})
# and of a checkpoint's folder, what is of use to a trainer alone
OF_TRAINING = frozenset({"complete.json", "openr1.json", "parallel.json", "trainer_state.json", PROVENANCE})


@dataclass(frozen=True)
class PublishFile:
    """A file to send. `git` is the SHA-1 under which git knows the content: the Hub lists small files by it."""

    path: str
    bytes: int
    sha256: str
    git: str


@dataclass(frozen=True)
class PublishPlan:
    """What would be sent: every file of `folder`. `rows` are those of a dataset's configs, by split."""

    repo: str
    type: RepoType
    stage: str
    folder: str
    licence: str
    files: list[PublishFile]
    rows: dict[str, Splits]
    bytes: int
    personal: dict[str, int]
    step: int | None = None

    @property
    def patterns(self) -> list[str]:
        """Beginnings of the paths that are this publication's alone: what else openr1 put there is stale."""
        return [f"{config}/" for config in self.rows] if self.type == "dataset" else [""]


def publish_folder(run_dir: Path, ask: Publication, out_dir: Path, checkpoint: Path | None = None) -> PublishPlan:
    """Write what the repository would receive into `out_dir` and describe it; nothing is sent.

    `checkpoint` is a folder of the stage to publish in the place of its model. Raises UserError for a bad id, no or
    several stages to choose from, licences that do not agree, or anything in the files that must not leave (each
    named, secrets masked); `out_dir` is then left as it was.
    """
    problems = ask.problems()
    if problems:
        raise UserError(*problems)
    run = load_run(run_dir)
    stage = choose_stage(run, ask.stage, ask.type)
    lineage = run.lineage(stage.name)
    origins = origins_of(lineage, ask.licences)
    licence = choose_licence(origins, ask.licence, ask.public)
    with _aside(out_dir) as aside:
        rows = write_dataset(run, stage, aside, _joined(ask.prefix), ask.outputs) if ask.type == "dataset" else {}
        if ask.type == "model":
            _write_model(stage, aside, checkpoint)
        if ask.logs:
            _write_logs(lineage, aside)
        scan = _scanned(aside, lineage, ask)
        made = {f.path: {"bytes": f.bytes, "sha256": f.sha256} for f in _files(aside)}
        step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else None
        _write_words(run, stage, ask, aside, origins, licence, rows, scan.personal, made, step)
        scan_file(words := Scan(), aside / CARD, CARD)
        scan_file(words, aside / PROVENANCE, PROVENANCE)
        _refuse(words, ask)
        files = _files(aside)
        replace_dir(aside, out_dir)
    total = sum(f.bytes for f in files)
    found = [ask.repo, ask.type, stage.name, str(out_dir), licence, files, rows, total, scan.personal, step]
    return PublishPlan(*found)  # type: ignore[arg-type]


def _joined(prefix: str) -> str:
    return f"{prefix}_" if prefix else ""


@contextmanager
def _aside(out_dir: Path) -> Iterator[Path]:
    """An empty folder beside `out_dir`, gone when the block fails."""
    aside = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.tmp")
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        yield aside
    except OSError as e:
        raise OutsideError(f"cannot write {out_dir}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_model(stage: Stage, folder: Path, checkpoint: Path | None) -> None:
    """The files that loading the model needs, and its training's metrics."""
    (output,) = publishable(stage, "model").values()
    source = checkpoint or stage.folder / str(output["path"])
    if not (source / "config.json").is_file():
        raise UserError(f"{source}: holds no model (config.json is missing); run {stage.name} again")
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in MODEL_SUFFIXES and file.name not in OF_TRAINING:
            link(file, folder / file.name)
    metrics = stage.folder / "metrics.jsonl"
    if metrics.is_file():
        shutil.copyfile(metrics, folder / METRICS)


def _write_logs(lineage: list[Stage], folder: Path) -> None:
    """The log of every stage's last attempt, as logs/<stage>.log."""
    for stage in lineage:
        attempts = sorted(stage.folder.glob("logs/attempt_*/stage.log"), key=lambda p: p.stat().st_mtime)
        if attempts:
            (folder / "logs").mkdir(exist_ok=True)
            shutil.copyfile(attempts[-1], folder / "logs" / f"{stage.name}.log")


def _write_words(
    run: Run,
    stage: Stage,
    ask: Publication,
    folder: Path,
    origins: list[Origin],
    licence: str,
    rows: dict[str, Splits],
    personal: dict[str, int],
    made: dict[str, dict[str, Any]],
    step: int | None,
) -> None:
    """The card and the provenance."""
    if ask.type == "dataset":
        card = dataset_card(run, stage, ask.repo, rows, origins, licence, personal)
    else:
        card = model_card(run, stage, ask.repo, origins, licence, personal, step)
    write_atomic(folder / CARD, without_paths(card))
    write_json(folder / PROVENANCE, provenance(run, stage, ask, made, origins, licence))


def _files(folder: Path) -> list[PublishFile]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    large = [p for p in found if p.stat().st_size > LARGEST_FILE]
    if large:
        raise UserError(*(f"{p.name}: {p.stat().st_size:,} bytes; the Hub takes at most 50 GB a file" for p in large))
    return [_described(p, p.relative_to(folder).as_posix()) for p in found]


def _described(file: Path, name: str) -> PublishFile:
    size = file.stat().st_size
    git, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
    with open(file, "rb") as f:
        while piece := f.read(1 << 20):
            git.update(piece)
            sha256.update(piece)
    return PublishFile(name, size, sha256.hexdigest(), git.hexdigest())


# ------------------------------------------------------------------------------------------------- what must not leave
def _scanned(folder: Path, lineage: list[Stage], ask: Publication) -> Scan:
    """The scan of the files, and of the stages' logs for credentials: what a log shows may be in the data too."""
    scan = scan_folder(folder)
    logs = Scan()
    for stage in lineage:
        for log in sorted(stage.folder.glob("logs/attempt_*/*.log")):
            scan_file(logs, log, f"{stage.name}/{log.relative_to(stage.folder).as_posix()}, a log that stays here")
    scan.findings += [f for f in logs.findings if f.what != HOME_PATH]
    _refuse(scan, ask)
    return scan


def _refuse(scan: Scan, ask: Publication) -> None:
    """Raise UserError for everything found that must not leave."""
    findings: list[Finding] = list(scan.findings)
    addresses = scan.list_of_addresses()
    if addresses and not ask.personal:
        findings.append(addresses)
    if not findings:
        return
    lines = [str(f) for f in findings[:MOST_FINDINGS]]
    if len(findings) > MOST_FINDINGS:
        lines.append(f"and {len(findings) - MOST_FINDINGS:,} more of the kind")
    if addresses in findings:
        lines.append("if these addresses may be published, say so with --allow-personal")
    lines.append("nothing was sent: take these out of the stage's data, settings or logs and publish again")
    raise UserError(*lines)
