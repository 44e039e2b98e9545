"""A process that runs stages for `openr1 run`, one after the other, so that torch is imported once.

It reads one JSON step a line from its standard input and answers on the pipe that was its standard output: progress,
messages, and how each stage ended. What libraries print goes to the stage's `output.log`. It dies with its parent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from openr1.config.recipe import Recipe, load_run_yaml
from openr1.launch.child import PipeSink, die_with_parent, failure, hold_save_signal
from openr1.launch.engine import run_stage
from openr1.launch.plan import Step
from openr1.log import setup_logging


def main() -> None:
    folder, settings_from, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    die_with_parent(parent)
    hold_save_signal()
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
    except (Exception, KeyboardInterrupt) as e:
        return failure(e, step.stage, folder)
    return {"event": "done", "seconds": manifest.seconds}


if __name__ == "__main__":
    main()
