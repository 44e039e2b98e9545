"""Shards of a generate stage through the command line: tasks side by side, refusals, and the merge with its totals."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_run import ScriptedServer, completions, manifest, openr1, start, words

SHARD = "stages=[generate]"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(tmp_path / "server", "--model", "tiny") as server:
        yield server


def prepared(folder: Path, server: ScriptedServer) -> list[str]:
    """A run whose prompts are made; returns its words."""
    run = ["run", *words(server.url)]
    done = openr1(folder, *run, "stages=[prompts]")
    assert done.returncode == 0, done.stderr
    return run


def test_tasks_fill_one_store_and_the_plain_run_adds_them_up(tmp_path: Path, server: ScriptedServer) -> None:
    run = prepared(tmp_path, server)
    tasks = [start(tmp_path, *run, SHARD, f"shard={i}/3", "--json") for i in range(3)]
    outputs = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], outputs
    made = [json.loads(out)["stages"]["generate"] for out, _ in outputs]
    assert sum(m["counts"]["out"] for m in made) == 48 == len(completions(tmp_path))
    assert not (tmp_path / "runs/r/generate/manifest.json").exists()
    status = openr1(tmp_path, "status", "r", "--json")
    (generate,) = [s for s in json.loads(status.stdout)["stages"] if s["stage"] == "generate"]
    assert generate["state"] == "waiting" and "3 shards: 3 done; 48 completions" in generate["note"]
    asked = server.stats()["answered"]

    merged = openr1(tmp_path, *run, SHARD)
    assert merged.returncode == 0, merged.stderr
    assert "3 shards have begun it, 3 of them done" in merged.stderr
    assert server.stats()["answered"] == asked == 48
    found = manifest(tmp_path, "generate")
    assert found["status"] == "done" and found["counts"]["out"] == 48 and found["counts"]["new"] == 0
    assert found["tokens"]["generated"] == sum(m["tokens"]["generated"] for m in made)
    assert [s["shard"] for s in found["shards"]] == ["0/3", "1/3", "2/3"]
    seconds = sum(a["seconds"] for a in (*found["attempts"], *found["shards"]))
    assert found["total_seconds"] == pytest.approx(seconds, abs=0.01)
    assert found["results"]["engine"] is not None

    again = openr1(tmp_path, *run, SHARD, "shard=0/3")
    assert again.returncode == 0 and server.stats()["answered"] == 48
    grown = openr1(tmp_path, *run, SHARD, "shard=1/2", "stages.generate.k=3")
    assert grown.returncode == 0, grown.stderr
    keys = [c.key for c in completions(tmp_path)]
    assert len(keys) == len(set(keys)) == server.stats()["answered"] > 48
    shrunk = openr1(tmp_path, *run, SHARD)  # with k=2 again
    assert shrunk.returncode == 1 and "k: 3 -> 2 would take rows away" in shrunk.stderr
    whole = openr1(tmp_path, *run, SHARD, "stages.generate.k=3")
    assert whole.returncode == 0 and len(completions(tmp_path)) == 72 == server.stats()["answered"]


@pytest.mark.slow
def test_an_active_shard_keeps_others_out_and_killed_goes_on(tmp_path: Path, server: ScriptedServer) -> None:
    run = prepared(tmp_path, server)
    server.control(latency=4.0)
    task = start(tmp_path, *run, SHARD, "shard=0/2")
    deadline = time.monotonic() + 120
    while not (tmp_path / "runs/r/generate/store").exists() or not completions(tmp_path):
        assert time.monotonic() < deadline and task.poll() is None
        time.sleep(0.05)
    server.control(latency=300.0)  # it is at it for as long as the others ask
    try:
        for word, said in (
            ("shard=0/2", "generate: is in use by shard 0/2 (process"),
            ("shard=0/3", "only one partition at a time"),
            ("", "generate: is in use by shard 0/2 (process"),
        ):
            refused = openr1(tmp_path, *run, SHARD, *filter(None, [word]))
            assert refused.returncode == 1 and said in refused.stderr
            assert len(refused.stderr.strip().splitlines()) == 1
    finally:
        task.kill()
    task.communicate()
    server.control(latency=0.0)
    for shard in ("0/2", "1/2"):
        done = openr1(tmp_path, *run, SHARD, f"shard={shard}")
        assert done.returncode == 0, done.stderr
    keys = [c.key for c in completions(tmp_path)]
    assert len(keys) == len(set(keys)) == 48
    assert manifest(tmp_path, "generate/shards/00000-of-00002")["attempts"][0]["exit"] == "killed"


def test_words_that_do_not_go_together(tmp_path: Path, server: ScriptedServer) -> None:
    run = ["run", *words(server.url)]
    for more, said in (
        ([SHARD, "shard=2/2"], "the shards of 2 are 0/2 to 1/2"),
        ([SHARD, "shard=x"], "write shard=i/N"),
        (["shard=0/2"], "name the generate stage"),
        (["stages=[verify]", "shard=0/2"], "verify is a verify stage, and only generate stages have shards"),
        ([SHARD, "shard=0/2", "rerun=[generate]"], "not together with rerun=[generate]"),
        ([SHARD, "shard=0/2"], "needs prompts done before its shards start"),
    ):
        refused = openr1(tmp_path, *run, *more)
        assert refused.returncode == 1 and said in refused.stderr, refused.stderr
    assert server.stats()["answered"] == 0
