"""A generate stage on transformers, killed at random instants, ends as the one that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openr1.records import COMPLETION_SCHEMA, TIME_COLUMNS, Completion
from openr1.store import AppendStore, is_locked

SCRIPT = Path(__file__).with_name("killable_generate.py")


def killed(folder: Path, prompts: int, k: int, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(prompts), str(k), str(kills)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert len(sizes) == kills and sizes == sorted(sizes) and sizes[-1] < prompts * k
    assert len(set(sizes)) > min(kills, 10) // 3  # some kills fell while rows were coming in
    stores = {
        name: AppendStore(folder / name / "generate" / "store", Completion, COMPLETION_SCHEMA, {}).load()
        for name in ("calm", "killed")
    }
    tables = {name: store.table().drop_columns(sorted(TIME_COLUMNS & {*COMPLETION_SCHEMA.names}))
              for name, store in stores.items()}  # fmt: skip
    assert tables["calm"].num_rows == prompts * k and tables["killed"].equals(tables["calm"])
    assert stores["killed"].content_hash() == stores["calm"].content_hash()
    manifest = json.loads((folder / "killed" / "generate" / "manifest.json").read_text())
    assert manifest["status"] == "done" and manifest["counts"]["out"] == prompts * k
    assert not is_locked(folder / "killed" / "generate" / "store" / ".lock")


def test_three_kills(tmp_path: Path) -> None:
    killed(tmp_path, 200, 2, 3)


@pytest.mark.slow
def test_fifty_kills_over_eight_thousand_completions(tmp_path: Path) -> None:
    killed(tmp_path, 2000, 4, 50)
