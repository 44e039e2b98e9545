"""The metric log: every step once, whatever was killed; the vocabulary; W&B beside it, offline."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from openr1.metrics import MetricLog, SafeTracker, TrackSettings, known_metric, open_tracker, read_metrics, tracking_id


def test_what_is_logged_comes_back_in_step_order(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "stage" / "metrics.jsonl")
    log.log(2, {"loss": 0.5})
    log.log(1, {"loss": 1, "reward/format": 0.2})
    rows = read_metrics(log.path)
    assert [(r["step"], r["loss"]) for r in rows] == [(1, 1.0), (2, 0.5)]
    assert rows[0]["reward/format"] == 0.2 and rows[0]["time"] > 0


def test_two_lines_of_a_step_are_one_row_and_the_later_value_counts(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "m")
    log.log(1, {"loss": 1.0, "entropy": 0.3})
    log.log(1, {"loss": 2.0, "accuracy": 0.5})
    (row,) = read_metrics(log.path)
    assert (row["loss"], row["entropy"], row["accuracy"]) == (2.0, 0.3, 0.5)


def test_a_value_that_is_not_finite_is_null_in_valid_json(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "m")
    log.log(1, {"loss": math.nan, "grad_norm": math.inf, "entropy": 0.0})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    row = json.loads(log.path.read_text(), parse_constant=refuse)
    assert (row["loss"], row["grad_norm"], row["entropy"]) == (None, None, 0.0)


def test_a_resumed_log_holds_every_step_once(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "m")
    for step in range(1, 8):
        log.log(step, {"loss": float(step)})
    with open(log.path, "a") as f:
        f.write('{"step": 8, "lo')
    resumed = MetricLog(tmp_path / "m")
    resumed.resume_from(5)
    for step in range(6, 9):
        resumed.log(step, {"loss": 10.0 * step})
    assert [r["loss"] for r in read_metrics(log.path)] == [1, 2, 3, 4, 5, 60, 70, 80]
    assert len(log.path.read_text().splitlines()) == 8


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    MetricLog(path).log(3, {"loss": 3.0})
    assert [r["step"] for r in read_metrics(path)] == [1, 3]


def test_resuming_from_the_start_forgets_everything(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "m")
    log.log(1, {"loss": 1.0})
    log.resume_from(0)
    assert read_metrics(log.path) == []


def test_no_log_is_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none") == []
    MetricLog(tmp_path / "none").resume_from(3)
    assert not (tmp_path / "none").exists()


def test_the_tracker_gets_what_the_file_gets(tmp_path: Path) -> None:
    class Seen:
        rows: list[tuple[int, Mapping[str, Any]]] = []

        def log(self, step: int, values: Mapping[str, Any]) -> None:
            self.rows.append((step, values))

        def finish(self, ok: bool) -> None: ...

    MetricLog(tmp_path / "m", Seen()).log(4, {"loss": math.nan, "kl": 0.1})
    assert Seen.rows == [(4, {"step": 4, "loss": None, "kl": 0.1})]


@pytest.mark.parametrize(
    ("name", "known"),
    [("loss", True), ("reward/accuracy", True), ("seconds/train", True), ("lossy", False), ("los/x", False)],
)
def test_the_vocabulary_knows_its_names(name: str, known: bool) -> None:
    assert known_metric(name) is known


def test_a_tracking_id_is_that_of_run_stage_and_key() -> None:
    assert tracking_id("r", "s", "k") == tracking_id("r", "s", "k")
    assert len({tracking_id("r", "s", "k"), tracking_id("r", "s", "l"), tracking_id("q", "s", "k")}) == 3


def test_tracking_switched_off_is_no_tracker(tmp_path: Path) -> None:
    settings = TrackSettings(mode="off", project="p")
    assert open_tracker(settings, tmp_path / "wandb", "run", "sft", "key", {}) is None
    assert not (tmp_path / "wandb").exists()


def test_wandb_writes_offline_files_and_touches_no_network(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from openr1.metrics import MetricLog, SafeTracker, TrackSettings, open_tracker\n"
        "folder = Path(sys.argv[1])\n"
        "tracker = open_tracker(TrackSettings(mode='offline', project='p'), folder, 'run', 'sft', 'key', {'lr': 1})\n"
        "log = MetricLog(folder / 'metrics.jsonl', tracker)\n"
        "log.log(1, {'loss': 1.0}); log.log(2, {'loss': float('nan')})\n"
        "tracker.finish(True)"
    )
    environment = os.environ | {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.glob("wandb/offline-run-*-" + tracking_id("run", "sft", "key") + "/*.wandb"))


def test_wandb_without_a_server_is_offline_and_says_how_to_send_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from openr1 import metrics\n"
        "from openr1.metrics import wandb_run\n"
        "wandb_run.INIT_TIMEOUT = 2\n"
        "settings = metrics.TrackSettings(mode='online', project='p')\n"
        "tracker = metrics.open_tracker(settings, Path(sys.argv[1]), 'run', 'sft', 'key', {})\n"
        "tracker.log(1, {'loss': 1.0})\n"
        "tracker.finish(True)"
    )
    environment = os.environ | {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    assert f"wandb sync {folder}" in done.stderr and "run/sft is tracked offline" in done.stderr


class Breaks:
    """A tracker that fails in one of its calls, and counts all of them."""

    sync_command = "wandb sync there"

    def __init__(self, where: str) -> None:
        self.where, self.calls = where, list[str]()
        self._call("start")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.where:
            raise ZeroDivisionError("gone\nfor good")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._call("log")

    def finish(self, ok: bool, summary: Mapping[str, Any] | None = None) -> None:
        self._call("finish")


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_switched_off_with_one_warning(
    where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Breaks] = []

    def opened() -> Breaks:
        tracker = Breaks.__new__(Breaks)
        made.append(tracker)
        Breaks.__init__(tracker, where)
        return tracker

    tracker = SafeTracker("run/sft", opened)
    log = MetricLog(tmp_path / "m", tracker)
    log.log(1, {"loss": 1.0})
    log.log(2, {"loss": 0.5})
    tracker.finish(True, {"steps": 2})
    assert [r["step"] for r in read_metrics(log.path)] == [1, 2]
    assert made[0].calls[-1] == where and made[0].calls.count(where) == 1
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert f"run/sft: {where} failed (gone); switched off" in line
    assert (Breaks.sync_command in line) is (where != "start")
