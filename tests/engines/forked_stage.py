"""Runs the generate stage of a run in forks, so that a kill costs no imports: `forked_stage.py RUN_FOLDER`.

A line on standard input starts an attempt; two lines answer: its process id, and later how it ended.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from openr1.config.recipe import load_run_yaml
from openr1.launch.child import die_with_parent
from openr1.launch.engine import run_stage
from openr1.launch.plan import make_plan


def attempt(folder: Path) -> int:
    recipe, parent = load_run_yaml(folder), os.getpid()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        die_with_parent(parent)
        for step in make_plan(recipe, folder):
            if step.action != "skip":
                run_stage(recipe, folder, step)
        status = 0
    finally:
        os._exit(status)


def main(folder: Path) -> None:
    for name in ("openr1.engines.openai", "openr1.stages.generate", "pyarrow.dataset"):
        importlib.import_module(name)
    for _ in sys.stdin:
        process = attempt(folder)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
