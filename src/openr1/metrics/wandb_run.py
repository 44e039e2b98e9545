"""W&B behind the tracker interface: one W&B run a stage, waits that are bounded, references instead of content.

group = the pipeline's run, job_type = the stage, id = a hash of run, stage and key: a requeued stage goes on in the
same W&B run. W&B's own step is the optimizer step, so that steps that are trained again after a kill (with the same
result) are there once and the axis never goes back.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from openr1.metrics.tracker import TrackedArtifact, TrackedTable, TrackSettings, first_line, tracking_id

logger = logging.getLogger("openr1")

INIT_TIMEOUT = 20  # seconds that a stage waits for W&B before it tracks offline
FINISH_TIMEOUT = 60  # seconds that it waits at its end for what has not been sent
GRACE = 5  # seconds more, before W&B's process is ended
NOT_SENT = frozenset({"time"})


class WandbTracker:
    """A W&B run. Without a server it is offline, unless `strict`: then it raises what W&B raised."""

    def __init__(
        self,
        settings: TrackSettings,
        folder: Path,
        run: str,
        stage: str,
        key: str,
        config: Mapping[str, Any],
        sync_command: str | None = None,
        strict: bool = False,
    ) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        folder.mkdir(parents=True, exist_ok=True)
        self._sync_command = sync_command
        self._until: float | None = None
        bounds = wandb.Settings(
            init_timeout=INIT_TIMEOUT, login_timeout=INIT_TIMEOUT, finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
            silent=True,
            console="off", x_disable_stats=True,
        )  # fmt: skip
        arguments: dict[str, Any] = {
            "project": settings.project,
            "entity": settings.entity,
            "group": run,
            "job_type": stage,
            "name": f"{run}/{stage}",
            "id": tracking_id(run, stage, key),
            "resume": "allow",
            "config": dict(config),
            "dir": str(folder),
            "settings": bounds,
        }
        try:
            self._run = wandb.init(mode="online" if settings.mode == "online" else "offline", **arguments)
        except Exception as e:  # no answer, no key, no permission: the files can be sent later
            wandb.teardown(exit_code=1)  # its service still holds the run that did not start
            if strict:
                raise
            self._run = wandb.init(mode="offline", **arguments)
            text = "W&B cannot be used online (%s); %s/%s is tracked offline, send it with: %s"
            logger.warning(text, first_line(e), run, stage, self.sync_command)
        self.there = int(self._run.step)  # steps below are on the server
        self._run.define_metric("*", step_metric="step")

    @property
    def sync_command(self) -> str:
        return self._sync_command or f"wandb sync {shlex.quote(self._run.settings.sync_dir)}"

    @property
    def url(self) -> str | None:
        return self._run.url

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        if step >= self.there:
            kept = {k: v for k, v in values.items() if v is not None and k not in NOT_SENT}
            self._run.log(kept | {"step": step}, step=step)

    def alert(self, title: str, text: str) -> None:
        self._run.alert(title=title, text=text, level="WARN")

    def describe(self, artifacts: Sequence[TrackedArtifact], tables: Sequence[TrackedTable]) -> None:
        self._within_bounds(lambda: self._describe(artifacts, tables))

    def _describe(self, artifacts: Sequence[TrackedArtifact], tables: Sequence[TrackedTable]) -> None:
        import wandb

        for one in artifacts:
            self._reference(one)
        for table in tables:  # W&B asks the server before it takes one
            shown = wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
            self._run.log({table.name: shown})

    def _reference(self, one: TrackedArtifact) -> None:
        """Publish it as a reference, made or used.

        W&B's own use_artifact refuses to work offline and waits for the server without a limit; what it sends is sent
        here through the interface below it, which writes the files and goes on.
        """
        from wandb import Artifact
        from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry
        from wandb.sdk.lib.paths import LogicalPath

        artifact = Artifact(re.sub(r"[^\w.-]+", "-", one.name)[:128], one.type, metadata=dict(one.metadata))
        entry = ArtifactManifestEntry(path=LogicalPath("reference"), ref=one.reference, digest=one.reference, size=0)
        artifact.manifest.add_entry(entry)
        artifact.finalize()
        interface = self._run._interface
        assert interface is not None
        interface.publish_artifact(
            self._run, artifact, ["latest"], None, is_user_created=one.used, use_after_commit=one.used
        )

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        if summary:
            self._run.summary.update(dict(summary))
        self._within_bounds(lambda: self._run.finish(exit_code=0 if ok else 1))

    def _within_bounds(self, call: Callable[[], None]) -> None:
        """`call`, in what is left of the time that the end of a stage may take; then W&B's own process is ended.

        W&B bounds the upload of metrics itself, not that of alerts and artifacts, nor what tables ask of the server.
        """
        if self._until is None:
            self._until = time.monotonic() + FINISH_TIMEOUT + GRACE
        failed: list[Exception] = []

        def work() -> None:
            try:
                call()
            except Exception as e:  # told to the caller's thread
                failed.append(e)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(self._until - time.monotonic(), 0.1))
        if thread.is_alive() or (failed and isinstance(failed[0], TimeoutError)):
            _end_service()
            raise TimeoutError(f"W&B did not take everything within {FINISH_TIMEOUT} s")
        if failed:
            raise failed[0]


def _end_service() -> None:
    """End W&B's own process, a child of this one, which waits for a server that does not answer; its files stay."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "wandb" in child.name():
                child.kill()
    with suppress(Exception):  # whatever it says about its service being gone
        teardown = threading.Thread(target=_forget_service, daemon=True)
        teardown.start()
        teardown.join(GRACE)


def _forget_service() -> None:
    import wandb

    with suppress(Exception):
        wandb.teardown(exit_code=1)
