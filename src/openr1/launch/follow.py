"""Verify overlaps generate: a process that grades completions while a generate stage still makes them.

It holds the verify stage's lock and fills its store; the stage itself begins when generate is done, and finds nearly
all graded. Nothing depends on it: killed, it loses the batch at hand, which the stage grades. It dies with its parent,
and its parent ends it when generate ends.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openr1.config.graph import upstream
from openr1.config.recipe import Recipe, load_run_yaml
from openr1.errors import OpenR1Error
from openr1.launch.child import PipeSink, die_with_parent
from openr1.launch.plan import Step
from openr1.launch.shards import StageLock
from openr1.log import log_file, setup_logging
from openr1.manifest import load_manifest
from openr1.stages.settings import GenerateStage, VerifyStage

NICENESS = 10  # generation goes first
PATIENCE = 120.0  # seconds for the batch at hand, when generate is done


def followers_of(recipe: Recipe, stage: str, todo: Sequence[Step], done: set[str]) -> list[str]:
    """The verify stages that may grade what `stage` makes while it makes it.

    Each decides by its `overlap`; by default where the engine leaves this machine's cores alone: vllm and openai.
    """
    settings = recipe.stages[stage]
    if not isinstance(settings, GenerateStage):
        return []
    remote = settings.engine.name != "transformers"
    found = []
    for step in todo:
        verify = recipe.stages[step.stage]
        if not isinstance(verify, VerifyStage) or verify.inputs["completions"] != f"{stage}/store" or step.aside:
            continue
        if (remote if verify.overlap is None else verify.overlap) and set(upstream(verify)) <= done | {stage}:
            found.append(step.stage)
    return found


class Follower:
    """The process, as its parent sees it. Its messages arrive through `tell`, the last of them is `gone`."""

    def __init__(
        self,
        stage: str,
        source: str,
        folder: Path,
        settings_from: Path,
        environment: Mapping[str, str],
        tell: Callable[[Follower, dict[str, Any]], None],
    ) -> None:
        self.stage, self.source = stage, source
        words = (stage, str(folder), str(settings_from), str(os.getpid()))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "openr1.launch.follow", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environment),
        )
        self._timer: threading.Timer | None = None
        threading.Thread(target=self._listen, args=(tell,), daemon=True).start()

    def _listen(self, tell: Callable[[Follower, dict[str, Any]], None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            tell(self, json.loads(line))
        code = self.process.wait()
        if self._timer is not None:
            self._timer.cancel()
        tell(self, {"event": "gone", "code": code})

    def stop(self) -> None:
        """Let it end its batch; past `PATIENCE` it is killed, and the stage grades that batch."""
        if self._timer is not None:
            return
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        self._timer = threading.Timer(PATIENCE, self.process.kill)
        self._timer.daemon = True
        self._timer.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    stage, folder, settings_from, parent = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    die_with_parent(parent)
    os.nice(NICENESS)
    sink = PipeSink(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    setup_logging(logging.INFO, sink)
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        new = follow(load_run_yaml(settings_from), folder, stage, ended.is_set)
        sink.send(event="message", text=f"{new} completions were graded while they were made")
    except OpenR1Error as e:  # the stage says it again, where it counts
        sink.send(event="message", text=f"does not grade while completions are made: {str(e).splitlines()[0]}")


def follow(recipe: Recipe, folder: Path, stage: str, stop: Callable[[], bool]) -> int:
    """Grade for `stage` what its generate stage makes, until `stop`; returns how many verdicts are new."""
    from openr1.stages import verify

    settings = recipe.stages[stage]
    assert isinstance(settings, VerifyStage)
    with StageLock(folder, stage, recipe.run), log_file(folder / stage / "logs" / "overlap" / "overlap.log"):
        source, _, split = settings.inputs["data"].partition("/")
        prompts = load_manifest(folder / source)
        assert prompts is not None
        completions = folder / settings.inputs["completions"].partition("/")[0] / "store"
        data = folder / source / prompts.outputs[split]["path"]
        return verify.follow(stage, settings, folder / stage, data, completions, stop)


if __name__ == "__main__":
    main()
