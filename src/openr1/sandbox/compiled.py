"""The cache of compiled programs: `sandbox-UID/` in the shared cache, one file a program; the oldest go first."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from pathlib import Path

from openr1.errors import OutsideError
from openr1.manifest import write_atomic
from openr1.paths import cache_dir

logger = logging.getLogger("openr1")

MOST_FILES = 20_000
_LOOK_EVERY = 200


def _folder() -> Path:
    return cache_dir() / f"sandbox-{os.geteuid()}"  # of one user, since what is in there is executed


def load(key: str) -> bytes | None:
    """The executable kept under `key`, None where there is none."""
    path = _folder() / key[:2] / key
    with contextlib.suppress(FileNotFoundError):
        data = path.read_bytes()
        os.utime(path)
        return data
    return None


def save(key: str, data: bytes) -> None:
    """Keep an executable where that is possible; now and then make room."""
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(folder / key[:2] / key, data)
    except (OSError, OutsideError) as error:
        logger.warning("sandbox: a compiled program could not be kept, so it is compiled again next time (%s)", error)
        return
    if random.randrange(_LOOK_EVERY) == 0:
        prune(folder, MOST_FILES)


def prune(folder: Path, most: int) -> None:
    """Remove what was not used for longest, beyond `most` files; others may do so at the same time."""
    found = []
    for path in folder.glob("??/*"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found)[: max(0, len(found) - most)]:
        path.unlink(missing_ok=True)
