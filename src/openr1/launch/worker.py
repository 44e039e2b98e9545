"""A process that runs stages for `openr1 run`, one after the other, so that torch is imported once.

It reads one JSON step a line from its standard input and answers on the pipe that was its standard output: progress,
messages, and how each stage ended. What libraries print goes to the stage's `output.log`. It dies with its parent.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from openr1.config.recipe import Recipe, load_run_yaml
from openr1.errors import OpenR1Error
from openr1.launch.engine import run_stage
from openr1.launch.plan import Step
from openr1.log import setup_logging

PR_SET_PDEATHSIG = 1
FULL_BYTES = 1024**2  # libraries report a full disk in words of their own; with less than this left it is the cause


class PipeSink:
    """Sends progress and messages to the parent as JSON lines."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def send(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def progress(self, title: str, done: int, total: int, note: str) -> None:
        self.send(event="progress", title=title, done=done, total=total, note=note)

    def end(self, title: str) -> None:
        self.send(event="end", title=title)

    def message(self, text: str) -> None:
        self.send(event="message", text=text)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux; elsewhere end of input does)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    folder, settings_from, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    die_with_parent(parent)
    sink = PipeSink(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    setup_logging(logging.INFO, sink)
    recipe = load_run_yaml(settings_from)
    for line in sys.stdin:
        step = Step(**json.loads(line))
        sink.send(**_answer(recipe, folder, step))


def _answer(recipe: Recipe, folder: Path, step: Step) -> dict[str, Any]:
    """Run the stage with its output captured; how it ended, as a message."""
    try:
        manifest = run_stage(recipe, folder, step, capture=True)
    except KeyboardInterrupt:
        return {"event": "failed", "stage": step.stage, "code": 130, "problems": ["interrupted"]}
    except OpenR1Error as e:
        problems = getattr(e, "problems", [str(e)])
        return {"event": "failed", "stage": step.stage, "code": e.exit_code, "problems": problems}
    except Exception as e:
        free = shutil.disk_usage(folder).free
        if free < FULL_BYTES:
            what = f"the disk of {folder} is full ({free // 1024} KB left); free some space, the same command goes on"
            return {"event": "failed", "stage": step.stage, "code": 3, "problems": [what]}
        return {
            "event": "failed",
            "stage": step.stage,
            "code": 1,
            "problems": [f"{type(e).__name__}: {e}"],
            "bug": True,
            "traceback": traceback.format_exc(),
        }
    return {"event": "done", "seconds": manifest.seconds}


if __name__ == "__main__":
    main()
