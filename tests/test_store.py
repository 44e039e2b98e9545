"""The append-only store and its lock: what a commit promises, whatever kills the process."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from openr1 import records
from openr1.errors import OutsideError, UserError
from openr1.records import Completion
from openr1.store import JOURNALS, AppendStore, FileLock, is_locked

IDENTITY = {"model": "tiny@1", "temperature": 1.0}
JOURNAL = "journal-00000.jsonl"  # of a store without a part

WRITER = """
import sys, time
from pathlib import Path
from openr1 import records
from openr1.records import Completion
from openr1.store import AppendStore
folder, seal = Path(sys.argv[1]), int(sys.argv[2])
with AppendStore(folder, Completion, records.COMPLETION_SCHEMA, {"model": "tiny@1", "temperature": 1.0}) as store:
    for commit in range(10_000):
        rows = [Completion(f"p{commit}", i, "text\\n" * 200, "stop", 3, 5, 7) for i in range(4)]
        if rows[0].key in store:
            continue
        store.append(rows)
        print(commit, flush=True)
        if commit % seal == seal - 1:
            store.seal()
"""


def row(prompt: str, index: int = 0, **fields: Any) -> Completion:
    values: dict[str, Any] = {"text": "1+1=2", "finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 5}
    return Completion(prompt, index, seed=7, **(values | fields))


def open_store(folder: Path, identity: dict[str, Any] | None = None) -> AppendStore[Completion]:
    return AppendStore(folder, Completion, records.COMPLETION_SCHEMA, identity or IDENTITY)


def spawn(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `tmp_path / store` until it is killed; it forks a child meanwhile."""
    code = (
        "import os, sys, time; from pathlib import Path; from openr1.store import FileLock\n"
        "lock = FileLock(Path(sys.argv[1]), 'it').acquire()\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(60); os._exit(0)\n"
        "print(child, flush=True); time.sleep(60)"
    )
    process = spawn(code, tmp_path / "store" / ".lock")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)


def test_rows_come_back_in_key_order_from_journal_and_parts(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("b"), row("a", 1)])
        store.seal()
        store.append([row("a", 0, text="\u2028 \ud7ff ü")])
    with open_store(tmp_path) as store:
        assert [r.key for r in store.rows()] == [("a", 0), ("a", 1), ("b", 0)]
        assert store.rows()[0] == row("a", 0, text="\u2028 \ud7ff ü")
        assert ("b", 0) in store and ("c", 0) not in store and len(store) == 3
    assert open_store(tmp_path).load().keys() == {("a", 0), ("a", 1), ("b", 0)}


def test_a_key_is_taken_once(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a")])
        for again in ([row("a")], [row("b"), row("b")]):
            with pytest.raises(ValueError, match="already"):
                store.append(again)
        assert store.keys() == {("a", 0)}
    assert len(open_store(tmp_path).load()) == 1


@pytest.mark.parametrize("tail", [b'[{"prompt_id": "x"', b"[", b"\x00\x00\x00", b'[{"prompt_id"\n'])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a")])
    with open(tmp_path / JOURNAL, "ab") as f:
        f.write(tail)
    with open_store(tmp_path) as store:
        assert store.keys() == {("a", 0)}
        store.append([row("b")])
    assert open_store(tmp_path).load().keys() == {("a", 0), ("b", 0)}


def test_damage_before_whole_commits_is_not_cut_off_in_silence(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a")])
        store.append([row("b")])
    data = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(b"?" + data[1:])
    with pytest.raises(UserError, match="line 1 is damaged"):
        open_store(tmp_path).__enter__()
    assert (tmp_path / JOURNAL).stat().st_size == len(data)
    assert not is_locked(tmp_path / ".lock")


def test_a_journal_left_after_sealing_is_dropped(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a"), row("b")])
        journal = (tmp_path / JOURNAL).read_bytes()
        store.seal()
    (tmp_path / JOURNAL).write_bytes(journal)  # as a kill between the rename and the unlink leaves it
    assert len(open_store(tmp_path).load()) == 2
    with open_store(tmp_path) as store:
        assert len(store) == 2
        store.append([row("c")])
        store.seal()
    stored = [k for part in sorted(tmp_path.glob("part-*")) for k in pq.read_table(part)["prompt_id"].to_pylist()]
    assert sorted(stored) == ["a", "b", "c"]


def test_an_unfinished_part_is_removed(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a")])
    (tmp_path / ".part-00000.parquet.tmp").write_bytes(b"PAR1 half")
    with open_store(tmp_path) as store:
        assert len(store) == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_another_identity_is_refused_with_the_difference(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a")])
    with pytest.raises(UserError, match=r"temperature: 1\.0 -> 0\.7"):
        open_store(tmp_path, IDENTITY | {"temperature": 0.7}).__enter__()
    with open_store(tmp_path) as store:  # and the refusal left no lock behind
        assert len(store) == 1


def test_content_hash_depends_on_rows_not_on_times_or_commits(tmp_path: Path) -> None:
    with open_store(tmp_path / "one") as one, open_store(tmp_path / "two") as two:
        one.append([row("a", seconds=1.0), row("b")])
        two.append([row("b", finished_at=9.0)])
        two.seal()
        assert one.content_hash() != two.content_hash()
        two.append([row("a", seconds=2.0)])
        assert one.content_hash() == two.content_hash()


def test_a_full_disk_loses_no_commit_and_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_store(tmp_path) as store:
        store.append([row("a")])
        with monkeypatch.context() as m:
            m.setattr(os, "fsync", full)
            with pytest.raises(OutsideError, match="No space left"):
                store.append([row("b")])
            with pytest.raises(OutsideError, match="kept in the journal"):
                store.seal()
        assert store.keys() == {("a", 0)}
        store.append([row("c")])
    assert open_store(tmp_path).load().keys() == {("a", 0), ("c", 0)}


def test_a_file_size_limit_in_the_middle_of_a_line_leaves_no_half(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from openr1 import records; from openr1.records import Completion\n"
        "from openr1.errors import OutsideError; from openr1.store import AppendStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "new = lambda p, n: [Completion(p, 0, 'x' * n, 'stop', 1, 1, 1)]\n"
        "with AppendStore(Path(sys.argv[1]), Completion, records.COMPLETION_SCHEMA, {}) as store:\n"
        "    store.append(new('a', 10))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "    try: store.append(new('b', 90_000))\n"
        "    except OutsideError: print('refused', flush=True)\n"
        "    store.append(new('c', 10))\n"
    )
    process = spawn(code, tmp_path)
    assert process.communicate()[0] == "refused\n" and process.returncode == 0
    store = AppendStore(tmp_path, Completion, records.COMPLETION_SCHEMA, {}).load()
    assert store.keys() == {("a", 0), ("c", 0)}


def test_a_second_writer_is_refused_and_told_who_holds_the_store(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
        open_store(tmp_path / "store").__enter__()
    assert is_locked(tmp_path / "store" / ".lock")


def test_a_killed_holder_leaves_no_lock_even_with_a_forked_child_alive(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    deadline = time.monotonic() + 30  # the child drops the lock as soon as it gets to run
    while is_locked(tmp_path / "store" / ".lock") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_locked(tmp_path / "store" / ".lock")
    with open_store(tmp_path / "store") as store:
        store.append([row("a")])


def test_asking_whether_a_lock_is_held_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with FileLock(path, "it"):
        assert is_locked(path) and is_locked(path)
    assert not is_locked(path)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_instants_every_commit_is_there_once(tmp_path: Path, seed: int) -> None:
    """Four kills in a row: what was reported as committed is there, whole and once, and nothing else half."""
    rng, reported = random.Random(seed), set[int]()
    for _ in range(4):
        process = spawn(WRITER, tmp_path, 3)
        assert process.stdout is not None
        reported.add(int(process.stdout.readline()))  # it is writing now
        time.sleep(rng.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        reported |= {int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
        process.wait()
        with open_store(tmp_path) as store:
            keys = store.keys()
            commits = {int(prompt.removeprefix("p")) for prompt, _ in keys}
            assert reported <= commits
            assert len(commits - reported) <= 4  # one commit in flight a kill may be there without its report
            assert len(store) == 4 * len(commits)
            assert commits == set(range(len(commits)))
        parts = [r for part in tmp_path.glob("part-*.parquet") for r in pq.read_table(part).to_pylist()]
        lines = [line for journal in tmp_path.glob(JOURNALS) for line in journal.read_text().splitlines()]
        stored = [(r["prompt_id"], r["sample_index"]) for r in parts + [r for line in lines for r in json.loads(line)]]
        assert len(stored) == len(set(stored))
