"""`openr1 status` on what a crash may have left."""

from __future__ import annotations

from pathlib import Path

from openr1.config.recipe import save_run_yaml
from openr1.launch.status import run_status
from openr1.launch.words import compose
from openr1.manifest import Manifest


def test_a_torn_manifest_is_named_and_the_other_stages_are_shown(tmp_path: Path) -> None:
    save_run_yaml(compose(["recipe=tiny_short", "run=r"])[0], tmp_path)
    Manifest("prompts", "prompts", status="done", counts={"in": 3, "out": 2}).save(tmp_path / "prompts")
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "manifest.json").write_text('{"stage": "sft", "ki')
    rows = {row.stage: row for row in run_status(tmp_path)[0]}
    assert rows["sft"].state == "unreadable" and f"{tmp_path / 'sft' / 'manifest.json'}: not a" in rows["sft"].note
    assert (rows["prompts"].state, rows["prompts"].note) == ("done", "3 in, 2 out")
