"""The test cluster, as `make test-slurm` starts it; without it these tests fail, they do not pass by."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_run import RUN, SFT, Run, environment, openr1, queue


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    conf = os.environ.get("SLURM_CONF", "")
    if "ClusterName=test" not in (Path(conf).read_text() if Path(conf).is_file() else ""):
        pytest.fail("the test cluster is not up; OPENR1_TEST_SLURM=system make test-slurm starts it", pytrace=False)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A test finds an empty queue and leaves one."""
    yield
    subprocess.run(["scancel", "--user=root"], check=True)
    deadline = time.monotonic() + 60
    while queue() and time.monotonic() < deadline:
        time.sleep(0.3)


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The stages prompts and sft, run here and disturbed by nobody."""
    run = Run(tmp_path_factory.mktemp("calm"))
    done = openr1(run.folder, "run", *SFT, f"run={RUN}", "cluster=local", env=environment())
    assert done.returncode == 0, done.stderr
    return run
