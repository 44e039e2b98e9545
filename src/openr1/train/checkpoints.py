"""Checkpoints that are whole or not there: written aside, vouched for by hashes, renamed; pruned when it is safe.

A checkpoint is `checkpoint-N/` with `complete.json`, the hash of every file in it, written last. A folder without it,
or whose files do not match it, was left by a killed process: it is skipped and removed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path

from openr1.errors import OutsideError
from openr1.manifest import hash_file, write_json

logger = logging.getLogger("openr1")

COMPLETE = "complete.json"
STAGING = ".saving"
NAME = re.compile(r"checkpoint-(\d+)")


def step_of(checkpoint: Path) -> int:
    """The optimizer step of a checkpoint folder; -1 for another name."""
    match = NAME.fullmatch(checkpoint.name)
    return int(match.group(1)) if match else -1


def checkpoints_of(work: Path) -> list[Path]:
    """The folders that are named as checkpoints, by step; whether they are whole is for `verified` to say."""
    found = work.iterdir() if work.is_dir() else ()
    return sorted((p for p in found if step_of(p) >= 0), key=step_of)


def commit(staged: Path, work: Path) -> Path:
    """Vouch for the staged folder and move it into `work`, in one rename; returns its final place."""
    try:
        for file in _files(staged):
            _flush(file)
        write_json(staged / COMPLETE, {f.relative_to(staged).as_posix(): hash_file(f) for f in _files(staged)})
        _flush(staged)
        target = work / staged.name
        if target.exists():
            shutil.rmtree(target)
        os.replace(staged, target)
        _flush(work)
    except OSError as e:
        raise OutsideError(f"cannot write {staged.name} in {work}: {e.strerror or e}; free some space") from e
    return target


def verified(checkpoint: Path) -> bool:
    """Whether every file is there with the hash that it had when the checkpoint was written."""
    try:
        listed = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        return bool(listed) and all(hash_file(checkpoint / name) == digest for name, digest in listed.items())
    except (OSError, ValueError):
        return False


def newest(work: Path) -> Path | None:
    """The newest checkpoint that verifies; what a killed process left half-written is removed, and said."""
    shutil.rmtree(work / STAGING, ignore_errors=True)
    found = checkpoints_of(work)[::-1]
    for checkpoint in found:
        if verified(checkpoint):
            return checkpoint
        logger.warning("%s is damaged or half-written; skipping it and removing it", checkpoint)
        shutil.rmtree(checkpoint)
    return None


def prune(work: Path, keep: int | None) -> None:
    """Keep the newest `keep` checkpoints (all with None); nothing goes before a newer one is verified, and none that a
    process of this machine reads: it goes with a later one."""
    found = checkpoints_of(work)[::-1]
    old = found[max(keep, 1) :] if keep else []
    if old and verified(found[0]):
        for checkpoint in old:
            if reader := reader_of(checkpoint):
                logger.info("%s is being read by process %d; it stays until a later save", checkpoint.name, reader)
            else:
                shutil.rmtree(checkpoint)


def reader_of(folder: Path) -> int | None:
    """A process of this machine that has a file of the folder open or, unless it is this one, mapped; None: nobody.

    Where there is no /proc, or for processes of others, nothing can be told.
    """
    inside = str(folder.resolve()) + os.sep
    for process in Path("/proc").glob("[0-9]*"):
        number = int(process.name)
        try:
            if any(os.readlink(link).startswith(inside) for link in (process / "fd").iterdir()):
                return number
            if number != os.getpid() and inside in (process / "maps").read_text(errors="replace"):
                return number
        except OSError:  # it has ended, or is somebody else's
            continue
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != COMPLETE)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
