"""A run through the command line: made, skipped, grown, refused, made again, and told of when a stage fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

SMALL = [
    "track.mode=off",
    "stages.sft.train.max_steps=12",
    "stages.sft.train.save_steps=12",
    "stages.prompts.splits.train.size=64",
    "stages.prompts.splits.rl.size=16",
    "stages.prompts.splits.eval.size=16",
    "stages.prompts.splits.dev.size=4",
]
DATA = "stages=[prompts,sft,generate,verify,curate]"


def openr1(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openr1.cli", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return openr1(folder, "run", "recipe=tiny_short", "run=r", *SMALL, *words)


def plan_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    rows = [line.split() for line in done.stderr.splitlines() if line.startswith("  ")]
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[1] in ("skip", "run", "grow", "wait", "resume")}


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "runs" / "r" / stage / "manifest.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = run(folder, DATA)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_stage_leaves_its_account(made: Path) -> None:
    found = manifest(made, "generate")
    assert found["status"] == "done" and found["exit"] == {"code": 0}
    assert found["counts"]["in"] == 16 and found["counts"]["out"] == 32
    assert found["tokens"]["generated"] > 0
    assert {"torch", "trl", "python"} <= set(found["versions"])
    assert set(found["inputs"]) == {"data", "model"}
    assert found["command"][:2] == ["openr1", "run"]
    sft = manifest(made, "sft")
    assert sft["outputs"]["model"]["hash"] == found["inputs"]["model"]["hash"]


def test_nothing_is_lost_between_completions_and_curated_rows(made: Path) -> None:
    curated = made / "runs" / "r" / "curate"
    rows = {name: pq.read_table(next((curated / name).glob("*.parquet"))).num_rows for name in ("sft", "dropped")}
    assert rows["sft"] + rows["dropped"] == 32
    reasons = manifest(made, "curate")["counts"]["dropped"]
    assert sum(n for reason, n in reasons.items() if not reason.startswith("rl:")) == rows["dropped"]


def test_the_same_command_again_skips_everything(made: Path) -> None:
    before = {s: manifest(made, s)["attempt"] for s in ("prompts", "sft", "generate")}
    done = run(made, DATA)
    assert done.returncode == 0 and set(plan_of(done).values()) == {"skip"}
    assert before == {s: manifest(made, s)["attempt"] for s in before}


def test_changed_settings_are_refused_and_change_nothing(made: Path) -> None:
    text = (made / "runs" / "r" / "run.yaml").read_text()
    done = run(made, DATA, "stages.sft.train.learning_rate=1e-3")
    assert done.returncode == 1
    assert "0.004 -> 0.001" in done.stderr and "rerun=[sft]" in done.stderr
    assert (made / "runs" / "r" / "run.yaml").read_text() == text


def test_another_recipe_in_the_same_folder_is_refused(made: Path) -> None:
    done = openr1(made, "run", "recipe=local_example", "run=r")
    assert done.returncode == 1 and "belongs to recipe 'tiny_short'" in done.stderr


def test_growth_then_rerun(made: Path, tmp_path: Path) -> None:
    """One after the other on a copy, since each changes the run."""
    import shutil

    shutil.copytree(made / "runs", tmp_path / "runs")
    store = tmp_path / "runs" / "r" / "generate" / "store"
    old = {(r["prompt_id"], r["sample_index"]): r["text"] for r in _rows(store)}
    grown = run(tmp_path, DATA, "stages.generate.k=3")
    assert grown.returncode == 0, grown.stderr
    assert plan_of(grown)["generate"] == "grow" and plan_of(grown)["sft"] == "skip"
    new = {(r["prompt_id"], r["sample_index"]): r["text"] for r in _rows(store)}
    assert len(old) == 32 and len(new) == 48
    assert {k: v for k, v in new.items() if k in old} == old
    assert (tmp_path / "runs" / "r" / "curate.old-1").is_dir()

    again = run(
        tmp_path, DATA, "stages.generate.k=3", "rerun=[curate]", "stages.curate.curate.steps.select.per_prompt=1"
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs" / "r" / "curate.old-2").is_dir()
    assert plan_of(again)["generate"] == "skip"


def test_status_logs_and_report_of_the_run(made: Path) -> None:
    states = {s["stage"]: s["state"] for s in json.loads(openr1(made, "status", "r", "--json").stdout)["stages"]}
    assert states["curate"] == "done" and states["grpo"] == "waiting"
    assert "sft" in openr1(made, "logs", "r", "sft").stdout
    near = openr1(made, "logs", "r", "stf")
    assert near.returncode == 1 and "did you mean sft" in near.stderr
    report = json.loads((made / "runs" / "r" / "report.json").read_text())
    assert report["recipe"] == "tiny_short"


def test_a_stage_that_fails_says_why_and_is_resumed_from(made: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made / "runs", tmp_path / "runs")
    words = ["stages=[evaluate_before]", "stages.evaluate_before.sampling.max_new_tokens=100000"]
    done = run(tmp_path, *words)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("openr1:")]
    assert lines and "100000" in lines[0] and "Traceback" not in done.stderr


def _rows(store: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(store.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
