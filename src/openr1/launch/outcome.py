"""How a stage failed, as a message from the process that ran it to the one that waits for it."""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path
from typing import Any

from openr1.errors import OpenR1Error

FULL_BYTES = 1024**2  # libraries report a full disk in words of their own; with less than this left it is the cause


def failure(error: BaseException, stage: str, folder: Path) -> dict[str, Any]:
    """The message for what a stage of the run in `folder` raised; `bug` where it is none that a person can mend."""
    message: dict[str, Any] = {"event": "failed", "stage": stage}
    if isinstance(error, KeyboardInterrupt):
        return message | {"code": 130, "problems": ["interrupted"]}
    if isinstance(error, OpenR1Error):
        return message | {"code": error.exit_code, "problems": getattr(error, "problems", [str(error)])}
    free = shutil.disk_usage(folder).free
    if free < FULL_BYTES:
        what = f"the disk of {folder} is full ({free // 1024} KB left); free some space, the same command goes on"
        return message | {"code": 3, "problems": [what]}
    trace = "".join(traceback.format_exception(error))
    return message | {"code": 1, "problems": [f"{type(error).__name__}: {error}"], "bug": True, "traceback": trace}
