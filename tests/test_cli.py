"""The command line as a person and a script meet it: speed, exit codes, one line for every mistake, JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def openr1(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openr1.cli", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=120,
    )


def cpu_seconds(*words: str) -> float:
    """The processor time of the fastest of three runs, so that a loaded machine does not decide."""
    times = []
    for _ in range(3):
        before = os.times()
        done = openr1(*words)
        after = os.times()
        assert done.returncode == 0, done.stderr
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_help_is_instant() -> None:
    assert cpu_seconds("--help") < 0.5


def test_check_is_fast() -> None:
    assert cpu_seconds("check", "recipe=tiny") < 3.0


@pytest.mark.parametrize(
    "words", [["--help"], ["check", "recipe=tiny"], ["status"], ["check", "recipe=tiny", "--data"]]
)
def test_no_torch_for_what_needs_none(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from openr1.cli import run_cli\n"
        "try: run_cli(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_exit_codes() -> None:
    assert openr1().returncode == 2
    assert openr1("runn", "recipe=tiny").returncode == 2
    assert openr1("run").returncode == 2
    assert openr1("run", "recipe=tny").returncode == 1
    assert openr1("check", "recipe=tiny", "--strict").returncode == 1
    assert openr1("check", "recipe=tiny", "--strict", "--data").returncode == 0


def test_a_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = openr1("run", "recipe=tiny", "stages.sft.train.learning_rte=9.0", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith("openr1: stages.sft.train.learning_rte:")
    assert "did you mean learning_rate" in line
    assert not (tmp_path / "runs").exists()


def test_json_is_alone_on_stdout() -> None:
    done = openr1("check", "recipe=tiny", "--json")
    assert json.loads(done.stdout)["recipe"] == "tiny"


def test_status_and_logs_of_a_run_that_is_not_there(tmp_path: Path) -> None:
    for words in (["status", "nope"], ["logs", "nope"]):
        done = openr1(*words, cwd=tmp_path)
        assert done.returncode == 1 and "no such run" in done.stderr
    assert "no runs yet" in openr1("status", cwd=tmp_path).stdout


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("precious")
    done = openr1("run", "recipe=tiny", "run=mine", cwd=tmp_path)
    assert done.returncode == 1 and "no run of openr1" in done.stderr


def test_doctor_says_what_is_there_and_ends_in_bounded_time() -> None:
    started = time.monotonic()
    done = openr1("doctor", "--json", HF_ENDPOINT="http://127.0.0.1:9", WANDB_BASE_URL="http://127.0.0.1:9")
    assert time.monotonic() - started < 30
    found = json.loads(done.stdout)
    assert {"versions", "devices", "slurm", "hub", "wandb", "disk"} <= set(found)
    assert found["hub"]["reachable"] is False
    assert found["devices"]["cores"] >= 1


def test_the_reference_page_is_the_programs_own() -> None:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.reference()
