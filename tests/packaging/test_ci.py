"""`.ci/run` ends with pytest's closing line, and fails when a step fails or no test was run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "run"
MAKE = """#!/bin/sh
echo "make $*"
case "$1" in
  test) echo "==== $SAYS in 1.00s ===="; exit $TEST_EXIT ;;
  test-vllm) echo "==== $VLLM_SAYS in 1.00s ====" ;;
  test-slow|test-slurm) echo "==== 3 passed in 1.00s ====" ;;
  run) mkdir -p runs/ci && echo x > runs/ci/report.html && echo x > runs/ci/report.json ;;
esac
"""


@pytest.mark.skipif(not SCRIPT.exists(), reason="a source distribution has no .ci")
@pytest.mark.parametrize(
    ("says", "test_exit", "vllm_says", "passes"),
    [
        ("230 passed, 3 skipped", 0, "8 passed", True),
        ("229 passed, 1 failed", 2, "8 passed", False),
        ("3 skipped", 0, "8 passed", False),
        ("230 passed", 0, "8 deselected", False),
    ],
)
def test_ci_judges_the_tests(tmp_path: Path, says: str, test_exit: int, vllm_says: str, passes: bool) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(MAKE)
    make.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{make.parent}:{os.environ['PATH']}",
        "SAYS": says,
        "TEST_EXIT": str(test_exit),
        "VLLM_SAYS": vllm_says,
    }
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert passes == (done.stdout.splitlines()[-1] == f"==== {says} in 1.00s ====")
    tested = test_exit == 0 and "passed" in says
    assert tested == ("make run RECIPE=tiny_short RUN=ci" in done.stdout)
