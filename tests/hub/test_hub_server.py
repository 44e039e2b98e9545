"""`openr1 publish` with the real clients, against a Hub that speaks the real protocol, through every kind of fault."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from servers import Server

from .conftest import STAGES, RunFolder, message
from .publisher import Publisher, hashes, there, titles

FIRST, TRACES = "initial commit", {"type": "dataset", "repo": "alice/traces"}
READ_CARD = """
from huggingface_hub import hf_hub_download
print(open(hf_hub_download("alice/traces", "README.md", repo_type="dataset")).read())
"""
FAULTS = (500, 503, 429, 412, "reset", "hang", "truncate", "lost")


# ------------------------------------------------------------------------------------------------------- round trips
def test_a_dataset_arrives_as_it_was_written_and_again_makes_no_commit(
    hub: Server, alice: Publisher, made: RunFolder
) -> None:
    code, told, err = alice.dataset(made)
    assert (code, err) == (0, "")
    assert there(hub) == hashes(told["folder"])
    assert titles(hub) == ["Publish curate of run made-up", FIRST]
    assert told["private"] and hub.admin("private", TRACES)
    code, again, _ = alice.dataset(made)
    assert code == 0 and again["sent"]["changed"] == 0 and again["sent"]["commit"] == told["sent"]["commit"]
    assert len(titles(hub)) == 2


@pytest.mark.slow
def test_the_datasets_library_loads_every_config_at_the_commit(hub: Server, alice: Publisher, made: RunFolder) -> None:
    _, told, _ = alice.dataset(made)
    made.curate([message("2")] * 7)
    alice.dataset(made)
    script = f"""
import datasets, json
rows = {{c: datasets.load_dataset("alice/traces", c, revision={told["sent"]["commit"]!r}, split="train").to_list()
        for c in ("sft", "rl")}}
newest = len(datasets.load_dataset("alice/traces", split="train"))
print(json.dumps([rows, newest]))
"""
    rows, newest = json.loads(alice.python(script))
    assert rows["sft"] == [message("2"), message("<b>two</b> | 2")]
    assert rows["rl"] == [{"prompt_id": "a", "pass_rate": 0.5}] and newest == 7


@pytest.mark.slow
def test_a_model_arrives_with_its_checkpoints_as_branches_and_opens_when_asked(
    hub: Server, alice: Publisher, made: RunFolder
) -> None:
    from openr1.manifest import hash_file, write_json

    for step in (10, 20):
        checkpoint = made.folder / "grpo" / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "config.json").write_text(json.dumps({"model_type": "qwen3", "step": step}))
        (checkpoint / "optimizer.pt").write_bytes(b"not for others")
        write_json(checkpoint / "complete.json", {p.name: hash_file(p) for p in checkpoint.iterdir()})
    words = ("--repo", "alice/tiny", "--type", "model", "--checkpoints", "--public", "--yes")
    code, told, err = alice.run(made, *words)
    assert (code, err) == (0, "")
    assert hub.admin("references", {"type": "model", "repo": "alice/tiny"})["branches"] == [
        "checkpoint-10", "checkpoint-20", "main",
    ]  # fmt: skip
    for plan in (told, *told["checkpoints"]):
        assert there(hub, "alice/tiny", "model", plan["sent"]["revision"]) == hashes(plan["folder"])
    assert "optimizer.pt" not in there(hub, "alice/tiny", "model", "checkpoint-10")
    assert hub.admin("private", {"type": "model", "repo": "alice/tiny"}) is False


def test_a_card_that_is_there_is_merged_and_what_is_stale_goes(hub: Server, alice: Publisher, made: RunFolder) -> None:
    config = "configs:\n- config_name: old\n  data_files: old.csv\n  default: true\n"
    card = f"---\nlicense: mit\ntags: [mine]\n{config}---\n\nMy words.\n"
    hub.admin("create", TRACES | {"files": {"README.md": card, "old.csv": "a\n1\n"}})
    assert alice.dataset(made)[0] == 0
    code, told, _ = alice.dataset(made, "alice/traces", "--prefix", "second")
    assert code == 0 and sorted(told["rows"]) == ["second_rl", "second_sft"]
    made.curate([message("2")] * 3)
    made.plan(STAGES)
    assert alice.dataset(made)[0] == 0
    text = alice.python(READ_CARD)
    front = yaml.safe_load(text.split("---\n")[1])
    assert [c["config_name"] for c in front["configs"]] == ["old", "sft", "rl", "second_sft", "second_rl"]
    assert [c.get("default", False) for c in front["configs"]] == [True, False, False, False, False]
    assert front["license"] == "apache-2.0" and front["tags"][0] == "mine"
    assert "My words." in text and text.count("How to make it again") == 1
    files = there(hub)
    assert {"old.csv", "sft/train-00000-of-00001.parquet", "second_sft/train-00000-of-00001.parquet"} <= set(files)


@pytest.mark.slow
def test_six_publishers_at_once_lose_nothing(hub: Server, tmp_path: Path, made: RunFolder) -> None:
    with ExitStack() as stack:
        made_folders = []
        for i in range(6):
            one = RunFolder(tmp_path / f"run-{i}" / "made-up")
            one.done("prompts", {}, settings={"task": {"name": "arithmetic"}})
            one.curate([message(str(i))] * (i + 1))
            made_folders.append(one)
        publishers = [stack.enter_context(Publisher(hub, tmp_path / f"home-{i}")) for i in range(6)]
        for i, (publisher, one) in enumerate(zip(publishers, made_folders, strict=True)):
            publisher.send(one, "--repo", "alice/traces", "--type", "dataset", "--prefix", f"p{i}")
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda p: p.answer(), publishers))
    assert [(code, err) for code, _, err in answers] == [(0, "")] * 6
    files, wanted = there(hub), {}
    for _, told, _ in answers:
        wanted |= {p: h for p, h in hashes(told["folder"]).items() if p.endswith(".parquet")}
    assert {p: h for p, h in files.items() if p.endswith(".parquet")} == wanted and len(wanted) == 12
    assert len(titles(hub)) == 7


# ------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_any_call_costs_nothing(hub: Server, alice: Publisher, made: RunFolder, kind: str | int) -> None:
    before = len(hub.calls())
    code, told, _ = alice.dataset(made, "alice/calm")
    assert code == 0
    calls, wanted = len(hub.calls()) - before, hashes(told["folder"])
    assert calls > 12
    for number in range(calls):
        hub.heal()
        hub.admin("clear")
        hub.fault(kind, ".*", skip=number, seconds=3600)
        code, told, err = alice.dataset(made, "alice/calm")
        assert (code, err) == (0, ""), (kind, number)
        assert there(hub, "alice/calm") == wanted, (kind, number)
        assert titles(hub, "alice/calm") == ["Publish curate of run made-up", FIRST], (kind, number)


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_is_one_correct_state(
    hub: Server, alice: Publisher, made: RunFolder
) -> None:
    before = len(hub.calls())
    _, told, _ = alice.dataset(made, "alice/calm")
    calls, wanted = len(hub.calls()) - before, hashes(told["folder"])
    for number in range(calls):
        hub.heal()
        hub.admin("clear")
        hub.fault("hang", ".*", skip=number, seconds=30)
        victim = alice.fork(str(made.folder), "--repo", "alice/calm", "--type", "dataset")
        deadline = time.monotonic() + 60
        with suppress(ProcessLookupError):  # it may make one call less than the first time, and end
            while hub.admin("waiting") and time.monotonic() < deadline:
                time.sleep(0.01)
                os.kill(victim, 0)
            os.kill(victim, signal.SIGKILL)
        hub.heal()
        code, _, err = alice.dataset(made, "alice/calm")
        assert (code, err) == (0, "") and there(hub, "alice/calm") == wanted, number
        assert titles(hub, "alice/calm") == ["Publish curate of run made-up", FIRST], number


def test_bytes_that_come_back_other_than_they_went_are_said(hub: Server, alice: Publisher, made: RunFolder) -> None:
    hub.fault("spoil", "/resolve/.*parquet", times=1)
    code, _, err = alice.dataset(made)
    assert code == 3 and "parquet is not what was sent; publish again" in err
    code, told, _ = alice.dataset(made, "alice/more")
    assert code == 0 and told["sent"]["read"] == len(told["files"]) == 4


def test_the_sample_that_is_read_back_is_bounded_and_spread() -> None:
    from openr1.hub.send import sample_of

    sizes = {"README.md": 10, "provenance.json": 20} | {f"model-{i:02d}": 4_000_000 for i in range(40)}
    chosen = sample_of(sizes)
    assert chosen[:2] == ["README.md", "provenance.json"] and 6 <= len(chosen) <= 8 and chosen[-1] > "model-30"
    assert sum(sizes[p] for p in sample_of(sizes, most=9_000_000)) <= 9_000_000
    assert sample_of({"weights": 10**12, "card": 5}) == ["card"]


def test_a_hub_that_stays_down_is_one_line(hub: Server, alice: Publisher, made: RunFolder) -> None:
    hub.fault(503, ".*", times=1000)
    code, _, err = alice.dataset(made)
    assert code == 3 and len(err.splitlines()) == 1 and "publish again later" in err


@pytest.mark.slow
def test_a_large_upload_is_a_tagged_branch_that_goes_on_where_it_stopped(
    hub: Server, made: RunFolder, tmp_path: Path
) -> None:
    script = f"""
import os, sys
from pathlib import Path
from openr1.hub import Publication, publish_folder
from openr1.hub.remote import Remote, bounded_calls
from openr1.hub.send import Large, send
run, out = Path({str(made.folder)!r}), Path({str(tmp_path / "out")!r})
plan = publish_folder(run, Publication("alice/large", "dataset"), out)
with bounded_calls():
    remote = Remote("alice/large", "dataset")
    remote.create()
    sent = send(remote, plan, "Large", large=Large(files=2, batch=1))
print(sent.revision, sent.changed)
"""
    with Publisher(hub, tmp_path / "home") as alice:
        hub.fault(400, "/commit/", "POST", skip=1)
        first = subprocess.run([sys.executable, "-c", script], env=alice.environment, capture_output=True, text=True)
        assert first.returncode == 1 and "refuses (400" in first.stderr
        tag, changed = alice.python(script).split()
        assert (tag.endswith("-tag"), changed) == (True, "3")
        again, changed = alice.python(script).split()
        assert (again, changed) == (tag, "0")
    large = {"type": "dataset", "repo": "alice/large"}
    assert hub.admin("references", large) == {
        "branches": ["main", tag.removesuffix("-tag")],
        "tags": [tag],
        "pulls": [],
    }
    assert there(hub, "alice/large", revision=tag) == hashes(str(tmp_path / "out")) and titles(hub, "alice/large") == [
        FIRST
    ]


# ----------------------------------------------------------------------------------------------------- who may not
def test_tokens_and_names_that_do_not_go_are_one_line_each(hub: Server, made: RunFolder, tmp_path: Path) -> None:
    hub.admin("create", {"type": "dataset", "repo": "alice/mine", "files": {"sft/train-00000-of-00001.parquet": "x"}})
    hub.admin("create", {"type": "dataset", "repo": "bob/open", "private": False})
    hub.admin("create", {"type": "dataset", "repo": "alice/open", "private": False})
    cases = [
        ("hf_wrong", "alice/x", (), "does not accept this token"),
        ("hf_read", "alice/x", (), "may only read"),
        (None, "alice/x", (), "there is no token"),
        ("hf_write", "bob/x", (), "alice may not write to bob/"),
        ("hf_write", "alice/mine", (), "is taken: it holds sft/train-00000-of-00001.parquet"),
        ("hf_write", "alice/open", (), "is public"),
        ("hf_write", "alice/none", ("--pr",), "no such repository"),
        ("hf_write", "alice/x", ("--public",), "There is nobody to ask; say --yes"),
    ]
    for token in ("hf_wrong", "hf_read", None, "hf_write"):
        with Publisher(hub, tmp_path / "home", token) as someone:
            for of, repo, words, said in cases:
                if of == token:
                    code, _, err = someone.dataset(made, repo, *words)
                    assert code == 1 and said in err and len(err.splitlines()) == 1, (repo, err)
    assert titles(hub, "bob/open") == ["by hand", FIRST]


def test_a_pull_request_is_made_once_and_only_where_asked(hub: Server, alice: Publisher, made: RunFolder) -> None:
    hub.admin("create", {"type": "dataset", "repo": "bob/open", "private": False})
    words = ("--pr", "--public", "--yes")
    code, told, err = alice.dataset(made, "bob/open", *words)
    assert (code, err) == (0, "") and told["sent"]["revision"] == "refs/pr/1"
    code, again, _ = alice.dataset(made, "bob/open", *words)
    assert code == 0 and again["sent"]["commit"] == told["sent"]["commit"]
    assert titles(hub, "bob/open") == ["by hand", FIRST]
    assert hub.admin("references", {"type": "dataset", "repo": "bob/open"})["pulls"] == ["1"]


def test_nothing_is_created_where_the_scan_finds_something(hub: Server, alice: Publisher, made: RunFolder) -> None:
    made.curate([message("hf_" + "aB3" * 12)])
    code, _, err = alice.dataset(made, "alice/secret")
    assert code == 1 and "Hugging Face token hf_a…39 characters" in err and "aB3aB3" not in err
    assert not any("alice/secret" in call and call.startswith("POST") for call in hub.calls())


def test_a_licence_on_the_hub_that_forbids_it_stops_it(hub: Server, alice: Publisher, made: RunFolder) -> None:
    hub.admin(
        "create",
        {
            "type": "dataset",
            "repo": "bob/data",
            "private": False,
            "files": {"README.md": "---\nlicense: cc-by-nd-4.0\n---\n"},
        },
    )
    made.done("prompts", {}, settings={"task": {"name": "hub", "id": "bob/data", "revision": "abc"}})
    code, _, err = alice.dataset(made)
    assert code == 1 and "bob/data is under cc-by-nd-4.0, which allows no derivatives" in err


def test_shards_are_of_the_size_that_is_asked_for(made: RunFolder, tmp_path: Path) -> None:
    from openr1.hub.layout import write_shards

    source = tmp_path / "source"
    source.mkdir()
    rows = [message(hashlib.sha256(str(i).encode()).hexdigest() * (1 + 40 * (i > 900))) for i in range(1000)]
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows), source / "data-00000.parquet")
    count = write_shards([source / "data-00000.parquet"], tmp_path / "out", "train", 20_000)
    files = sorted((tmp_path / "out").iterdir())
    assert count == 1000 and len(files) > 3 and max(f.stat().st_size for f in files) <= 20_000
    assert files[0].name == f"train-00000-of-{len(files):05d}.parquet"
    assert pa.concat_tables([pq.read_table(f) for f in files]).to_pylist() == rows
