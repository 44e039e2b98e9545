"""Runs beside each other: what differs, what it did to the metrics, and what cannot be read or compared."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import start

from openr1.cli import run_cli
from openr1.errors import UserError
from openr1.launch.comparison import Comparison
from openr1.manifest import Manifest
from openr1.metrics import MetricLog
from openr1.report.differ import along, differ
from openr1.report.sides import Side, SideStage, metric_rows
from openr1.report.wandb_file import read_wandb_file

Rows = list[dict[str, Any]]


def write_run(folder: Path, rate: float, rows: Rows, recipe: str = "tiny", stages: tuple[str, ...] = ("sft",)) -> Path:
    kinds = {n: {"kind": "sft", "inputs": {}} for n in stages}
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(yaml.safe_dump({"recipe": recipe, "run": folder.name, "stages": kinds}))
    for name in stages:
        settings = {"kind": "sft", "train": {"learning_rate": rate, "max_steps": len(rows)}, "seed": 1}
        told: dict[str, Any] = {"status": "done", "settings": settings, "tokens": {"trained": 900}, "attempt": 1}
        Manifest(name, "sft", total_seconds=12.5, gpu_hours=0.5, **told).save(folder / name)
        log = MetricLog(folder / name / "metrics.jsonl")
        for step, row in enumerate(rows, 1):
            log.log(step, row)
    return folder


def falling(n: int, slope: float) -> Rows:
    return [{"loss": 5 - slope * i, "tokens": 100.0 * i, "seconds/step": 0.5} for i in range(1, n + 1)]


def test_two_runs_show_what_differs_and_the_end_and_the_best(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", 1e-4, falling(10, 0.1))
    b = write_run(tmp_path / "b", 2e-4, [*falling(9, 0.2), {"loss": 4.5, "tokens": 1000.0}])
    told = Comparison.of([str(a), str(b)]).told
    assert told["config"] == [
        {"stage": "sft", "key": "train.learning_rate", "values": {"a": 1e-4, "b": 2e-4}},
    ]  # fmt: skip
    loss = {m["run"]: m for m in told["metrics"] if m["metric"] == "loss"}
    assert (loss["a"]["end"], loss["a"]["end_step"], loss["a"]["best_step"]) == (4.0, 10, 10)
    assert (loss["b"]["end"], round(loss["b"]["best"], 6), loss["b"]["best_step"]) == (4.5, 3.2, 9)
    assert loss["a"]["by_step"][0] == [1, 4.9] and loss["a"]["by_step"][-1] == [10, 4.0]
    assert [(c["run"], c["tokens"], c["seconds"], c["gpu_hours"]) for c in told["costs"]] == [
        ("a", 900, 12.5, 0.5), ("b", 900, 12.5, 0.5),
    ]  # fmt: skip


def test_a_copy_of_a_run_goes_by_the_name_of_its_folder(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", 1e-4, falling(3, 0.1))
    copy = shutil.copytree(a, tmp_path / "copy")
    assert [r["run"] for r in Comparison.of([str(a), str(copy)]).told["runs"]] == ["a", "copy"]
    (copy / "sft" / "manifest.json").write_text('{"stage": "sf')
    told = Comparison.of([str(a), str(copy)])
    assert told.told["stages"]["sft"]["copy"] == "unreadable" and "sft is unreadable" in told.page()


def test_axes_are_steps_tokens_and_seconds_so_far() -> None:
    rows = [{"step": s, "tokens": 10.0 * s, "seconds/step": 0.5} for s in (1, 2, 3)]
    assert [along(rows, axis) for axis in ("step", "tokens", "seconds")] == [[1, 2, 3], [10, 20, 30], [0.5, 1.0, 1.5]]


def test_the_page_stands_alone_and_has_curves_settings_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "a", 1e-4, falling(20, 0.1))
    b = write_run(tmp_path / "b", 2e-4, falling(20, 0.2))
    page, table = tmp_path / "out.html", tmp_path / "out.csv"
    assert run_cli(["compare", str(a), str(b), "--html", str(page), "--csv", str(table)]) == 0
    shown = capsys.readouterr().out
    assert "sft.train.learning_rate" in shown and "0.0002" in shown and "best 1 at 20" in shown
    text = page.read_text()
    for words in ("sft, by step", "sft, by tokens", "sft, by seconds", "Settings that differ", "What it took"):
        assert words in text
    assert not re.search(r"(src|href)=\"?(https?:)?//", text) and "url(http" not in text
    assert "<script" not in text and table.read_text().splitlines()[0].startswith("stage,metric,run,steps,end")


def test_what_one_must_know_is_said(tmp_path: Path) -> None:
    broken = [{"loss": math.nan if i == 2 else 1.0} for i in range(4)]
    a = write_run(tmp_path / "a", 1e-4, broken, stages=("sft", "more"))
    b = write_run(tmp_path / "b", 1e-4, falling(4, 0.1), recipe="other")
    from openr1.report.differ import warnings_of

    lines = warnings_of(Comparison.of([str(a), str(b)]).told)
    assert "the runs are of different recipes: a tiny, b other" in lines
    assert "more: not in b" in lines and "sft: 1 values of loss in a are not finite" in lines


def test_runs_that_cannot_be_compared_are_one_line(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", 1e-4, falling(3, 0.1))
    b = write_run(tmp_path / "b", 1e-4, falling(3, 0.1), stages=("other",))
    for words, said in (
        ([str(a)], "one run is nothing to compare"),
        ([str(a), str(b)], "no stage is in two of the runs"),
        ([str(a), str(tmp_path / "none")], "none"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            Comparison.of(words)
        assert len(caught.value.problems) == 1


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a", 1e-4, falling(3, 0.1))
    b = write_run(tmp_path / "b", 2e-4, falling(3, 0.1))
    (tmp_path / "file").write_text("")
    assert run_cli(["compare", str(a), str(b), "--html", str(tmp_path / "file" / "x.html")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_thousands_of_keys_and_twenty_long_runs_take_seconds() -> None:
    rows = [{"step": s, "loss": 1 / s, "reward": s / 1e4, "entropy": 0.5} for s in range(1, 10_001)]
    config = {f"key.{i}": i for i in range(5000)}
    sides = [
        Side(f"run-{n}", "folder", "tiny", {"sft": SideStage("sft", "sft", "done", config | {"lr": n}, rows)})
        for n in range(20)
    ]
    began = time.process_time()
    told = differ(sides)
    assert time.process_time() - began < 20
    assert [c["key"] for c in told["config"]] == ["lr"] and len(told["metrics"]) == 60


def test_history_of_wandb_becomes_rows_of_our_log() -> None:
    history = [
        {"_step": 1, "step": 1, "loss": 2.0, "_runtime": 3.0},
        {"_step": 2, "step": 2, "loss": "NaN", "completions": {"_type": "table-file"}},
    ]
    assert metric_rows(history) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]


def test_a_file_that_is_none_of_wandbs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wandb").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"is no \.wandb file"):
        read_wandb_file(tmp_path / "x.wandb")


OFFLINE = """
import sys
from pathlib import Path
from openr1.metrics import TrackSettings, open_tracker
for name, rate in (("a", 1e-4), ("b", 2e-4)):
    settings = TrackSettings(mode=sys.argv[2], project="p")
    config = {"kind": "sft", "train": {"learning_rate": rate}}
    tracker = open_tracker(settings, Path(sys.argv[1]) / name, name, "sft", "k", config)
    for step in range(1, 200):
        tracker.log(step, {"step": step, "loss": rate * step})
    tracker.finish(True, {"total/seconds": 3.0, "tokens/trained": 7})
"""


def track(folder: Path, mode: str, url: str) -> None:
    environment = os.environ | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "local" + "0" * 40}
    command = [sys.executable, "-c", OFFLINE, str(folder), mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_offline_files_are_compared_and_a_torn_one_up_to_where_it_is_torn(tmp_path: Path) -> None:
    track(tmp_path, "offline", "http://127.0.0.1:9")
    told = Comparison.of([str(tmp_path / "a"), str(tmp_path / "b")]).told
    assert told["config"][0]["values"] == {"a": 1e-4, "b": 2e-4}
    loss = {m["run"]: m for m in told["metrics"]}
    assert (loss["a"]["steps"], loss["b"]["end_step"]) == (199, 199) and told["costs"][0]["tokens"] == 7
    (file,) = (tmp_path / "a").rglob("*.wandb")
    data = file.read_bytes()
    assert struct.unpack("<H", data[4:6])[0] == 0xBEE1
    for cut in (len(data) - 5, len(data) // 2, 100, 9):
        file.write_bytes(data[:cut])
        found = read_wandb_file(file)
        assert [r["step"] for r in found.history] == list(range(1, len(found.history) + 1)) and len(
            found.history
        ) < 200
    file.write_bytes(data[: len(data) // 2])
    told = Comparison.of([str(file), str(tmp_path / "b")]).told
    assert "ends in the middle of a record" in told["runs"][0]["notes"][0]


@pytest.mark.slow
def test_runs_of_a_wandb_server_are_compared_by_group(tmp_path: Path) -> None:
    with start("wandb_server") as server:
        track(tmp_path, "online", server.url)
        environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "local" + "0" * 40}
        command = [sys.executable, "-m", "openr1.cli", "compare", "--source", "wandb", "--json"]
        for words in (["p/a", "p/b"], ["p"]):
            done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            assert [r["run"] for r in told["runs"]] == ["a", "b"] and told["runs"][0]["source"] == "W&B"
            assert {m["run"]: m["steps"] for m in told["metrics"]} == {"a": 199, "b": 199}
        for words, said in ((["p/none"], "has no run"), (["p", "--filter", "{"], "is no JSON")):
            done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=200)
            assert done.returncode == 1 and said in done.stderr
        keyless = {k: v for k, v in environment.items() if k != "WANDB_API_KEY"} | {"HOME": str(tmp_path)}
        done = subprocess.run([*command, "p/a"], env=keyless, capture_output=True, text=True, timeout=200)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("openr1:")]
        assert done.returncode == 1 and "run `wandb login`" in line
