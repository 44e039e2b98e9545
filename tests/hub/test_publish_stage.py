"""A publish stage of a real run, from `openr1 run` to the test Hub and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import Server

from .publisher import Publisher, hashes, there, titles

SEND = "kind: publish, seed: 0, inputs: {one: prompts/train, two: prompts/eval}"


def words(folder: Path, *more: str, repo: str = "alice/sums") -> list[str]:
    """Of tiny_short the stage that draws prompts, and one more that publishes two of its splits."""
    send = f"stages.send={{{SEND}, repo: {repo}}}"
    named = ["recipe=tiny_short", f"run={folder / 'r'}", "track.mode=off", "stages=[prompts,send]", send]
    return ["run", "--json", *named, *more]


def published(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "r" / "send" / "manifest.json").read_text())


def asked(hub: Server) -> list[str]:
    return [call for call in hub.calls() if "_admin" not in call]


def test_a_run_publishes_privately_and_again_makes_no_commit(hub: Server, alice: Publisher, tmp_path: Path) -> None:
    code, _, err = alice.openr1(*words(tmp_path))
    assert code == 0, err
    told = published(tmp_path)["results"]["published"]
    sums = {"type": "dataset", "repo": "alice/sums"}
    assert told["private"] and hub.admin("private", sums) and told["rows"] == {"default": {"train": 600, "eval": 64}}
    assert there(hub, "alice/sums") == hashes(str(tmp_path / "r" / "send" / "sent"))
    made = titles(hub, "alice/sums")
    assert made[0] == "Publish prompts of run r"
    code, told, _ = alice.openr1("status", str(tmp_path / "r"), "--json")
    assert code == 0 and told["stages"][-1]["note"].startswith("dataset alice/sums at ")
    calls = asked(hub)
    assert alice.openr1(*words(tmp_path))[0] == 0 and asked(hub) == calls  # done: nobody is asked
    assert alice.openr1(*words(tmp_path, "rerun=[send]"))[0] == 0
    assert titles(hub, "alice/sums") == made and published(tmp_path)["counts"]["changed"] == 0
    code, _, err = alice.openr1(*words(tmp_path, repo="alice/other"))
    assert code == 1 and "'alice/sums' -> 'alice/other'" in err and "rerun=[send]" in err


@pytest.mark.slow
def test_what_the_hub_would_refuse_is_refused_before_the_first_stage(
    hub: Server, alice: Publisher, tmp_path: Path
) -> None:
    hub.admin("create", {"type": "dataset", "repo": "alice/open", "private": False})
    for repo, said in (("bob/sums", "alice may not write to bob/"), ("alice/open", "is public: everyone")):
        code, _, err = alice.openr1(*words(tmp_path, repo=repo))
        assert code == 1 and said in err and err.count("openr1: ") == 1, err
    assert not (tmp_path / "r" / "prompts").exists()
    hub.fault(503, ".*", times=1)  # that it does not answer as yet stops nobody
    code, _, err = alice.openr1(*words(tmp_path))
    assert code == 0 and "send: not known yet whether alice/sums can be written" in err, err
