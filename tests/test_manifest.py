"""Manifests, content hashes, differences, and writes that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openr1.errors import OutsideError, UserError
from openr1.manifest import (
    Manifest,
    differences,
    flat,
    git_state,
    hash_json,
    hash_path,
    load_manifest,
    package_versions,
    replace_dir,
    write_atomic,
    write_json,
)


def test_a_manifest_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    manifest = Manifest("sft", "sft", status="done", tokens={"trained": 3}, results={"loss": 0.5}, git={"commit": "c"})
    manifest.save(tmp_path)
    assert load_manifest(tmp_path) == manifest
    assert load_manifest(tmp_path / "elsewhere") is None


def test_a_field_of_a_later_version_is_ignored(tmp_path: Path) -> None:
    Manifest("sft", "sft").save(tmp_path)
    raw = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(raw | {"colour": "blue"}))
    assert load_manifest(tmp_path) == Manifest("sft", "sft")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", '{"stage": "sft"}'])
def test_what_is_no_manifest_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="run the stage again"):
        load_manifest(tmp_path)


def test_a_failed_write_leaves_the_old_content_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutsideError, match="No space left"):
        write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_killed_writer_leaves_the_old_or_the_new_never_a_part(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from openr1.manifest import write_json\n"
        "n = 0\n"
        "while True:\n"
        "    write_json(Path(sys.argv[1]), {'n': [n] * 20_000}); n += 1\n"
        "    print(n, flush=True)"
    )
    rng, path = random.Random(5), tmp_path / "value.json"
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        process.wait()
        numbers = json.loads(path.read_text())["n"]
        assert len(numbers) == 20_000 and len(set(numbers)) == 1


def test_replace_dir_puts_the_new_folder_in_place_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    target, source, left = tmp_path / "model", tmp_path / ".model.new", tmp_path / ".model.999.old"
    for folder, text in ((target, "old"), (source, "new"), (left, "older")):
        folder.mkdir()
        (folder / "weights").write_text(text)
    replace_dir(source, target)
    assert (target / "weights").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_hash_of_a_folder_sees_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.parquet").write_bytes(b"rows")
    Manifest("s", "k").save(two)
    (two / ".lock").write_text("process 1")
    assert hash_path(one) == hash_path(two)
    (two / "sub" / "a.parquet").rename(two / "sub" / "b.parquet")
    assert hash_path(one) != hash_path(two)
    (one / "sub" / "a.parquet").rename(one / "sub" / "b.parquet")
    assert hash_path(one) == hash_path(two)
    (one / "sub" / "b.parquet").write_bytes(b"rowz")
    assert hash_path(one) != hash_path(two)
    with pytest.raises(UserError, match="no such file"):
        hash_path(tmp_path / "three")


def test_hash_of_json_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_json({"a": 1, "b": [1, "\ud800"]}) == hash_json({"b": [1, "\ud800"], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 1.5}) != hash_json({"a": "1.5"})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({"a": 1}, {}, ["a: 1 -> (absent)"]),
        ({}, {"a": None}, ["a: (absent) -> None"]),
        ({"a": {}}, {"a": {"b": 1}}, ["a: {} -> (absent)", "a.b: (absent) -> 1"]),
        ({"a": [1]}, {"a": [1]}, []),
    ],
)
def test_differences_name_the_key_and_both_values(old: dict[str, Any], new: dict[str, Any], said: list[str]) -> None:
    assert differences(old, new) == said


def test_flat_keeps_lists_whole() -> None:
    assert flat({"a": {"b": {"c": [1, {"d": 2}]}}, "e": None}) == {"a.b.c": [1, {"d": 2}], "e": None}


def test_git_state_of_a_checkout_and_of_none(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    environment = {"GIT_CONFIG_GLOBAL": os.devnull, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def git(*args: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *args], cwd=tmp_path, check=True, capture_output=True, env=environment)

    git("init", "-b", "trunk")
    (tmp_path / "f").write_text("1")
    git("add", "f")
    git("commit", "-m", "first")
    state = git_state(tmp_path)
    assert state is not None and state["branch"] == "trunk" and len(state["commit"]) == 40 and not state["dirty"]
    (tmp_path / "new").write_text("untracked")
    assert git_state(tmp_path) == state
    (tmp_path / "f").write_text("2")
    changed = git_state(tmp_path)
    assert changed is not None and changed["dirty"]


def test_versions_hold_python_and_what_is_installed() -> None:
    versions = package_versions()
    assert versions["python"] == sys.version.split()[0] and "pyarrow" in versions


def test_json_is_written_as_people_read_it(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"word": "ü", "path": Path("x")})
    assert (tmp_path / "deep" / "a.json").read_text(encoding="utf-8") == '{\n  "word": "ü",\n  "path": "x"\n}\n'
