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
from openr1.records import Completion, stable_hash
from openr1.store import JOURNALS, AppendStore, FileLock, Shard, is_locked

IDENTITY = {"model": "tiny@1", "temperature": 1.0}
JOURNAL = "journal-00000.jsonl"  # of a store without a part

WRITER = """
import sys, time
from pathlib import Path
from openr1 import records
from openr1.records import Completion, stable_hash
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


# ------------------------------------------------------------------------------------------------------------- parts
SMALL_PARTS = """
import sys
from pathlib import Path
from openr1 import records
from openr1.records import Completion, stable_hash
from openr1.store import AppendStore, Shard

class Store(AppendStore):
    PART_ROWS = 6

def open_store(folder, shard=None):
    return Store(Path(folder), Completion, records.COMPLETION_SCHEMA, {"model": "tiny@1", "temperature": 1.0}, shard)

def rows_of(commit, n=2, size=200):
    prompt = stable_hash(commit)
    return [Completion(prompt, i, f"{commit} " * size, "stop", 3, 5, 7) for i in range(n)]
"""


def test_a_journal_that_has_grown_becomes_a_part_and_memory_holds_no_rows(tmp_path: Path) -> None:
    class Small(AppendStore[Completion]):
        PART_ROWS = 10

    with Small(tmp_path, Completion, records.COMPLETION_SCHEMA, IDENTITY) as store:
        for n in range(25):
            store.append([row(f"{n:02d}")])
        assert len(list(tmp_path.glob("part-*"))) == 2
        assert [r.prompt_id for r in store.rows()] == [f"{n:02d}" for n in range(25)]
        assert sum(t.num_rows for t in store.iter_tables(batch_rows=4)) == 25
        assert max(t.num_rows for t in store.iter_tables(batch_rows=4)) == 4
        assert next(store.iter_tables(columns=["text"])).column_names == ["text"]
        before = store.content_hash()
    again = open_store(tmp_path).load()
    assert again.content_hash() == before and len(again) == 25


def test_keys_are_live_for_who_holds_them(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        keys = store.keys()
        assert ("a", 3) not in keys
        store.append([row("a", 3)])
        assert ("a", 3) in keys and ("a", 0) not in keys and "a" not in keys


def test_half_a_surrogate_pair_does_not_poison_a_store(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row("a", text="x\ud83dy"), row("b", text="\ud83d\ude00")])
        before = store.content_hash()
        store.seal()
    store = open_store(tmp_path).load()
    assert [r.text for r in store.rows()] == ["x\ufffdy", "\U0001f600"] and store.content_hash() == before


def test_a_reader_beside_a_writer_sees_every_row_once(tmp_path: Path) -> None:
    """Whatever instant a reader looks at: what it sees is a beginning of what is written, each row once."""
    writer = spawn(
        SMALL_PARTS + "with open_store(sys.argv[1]) as store:\n"
        "    for commit in range(150):\n"
        "        store.append(rows_of(commit)); print(commit, flush=True)\n",
        tmp_path,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    seen = [0]
    while writer.poll() is None and seen[-1] < 300:
        rows = [r.key for r in open_store(tmp_path).iter_rows()]
        assert len(rows) == len(set(rows)) >= seen[-1]
        commits = {int(r.text.split()[0]) for r in open_store(tmp_path).iter_rows()}
        assert commits == set(range(len(commits)))
        seen.append(len(rows))
    writer.communicate(timeout=120)
    assert len(open_store(tmp_path).load()) == 300


# windows of a seal: the part is written aside, has its name, the journal is gone
WINDOWS = ["os.fsync", "os.replace", "Path.unlink", "pq.write_table"]
KILLED_IN = """
import os, signal, pyarrow.parquet as pq
from openr1.store import segment
module, name = sys.argv[2].split(".")
owner = {"os": os, "Path": Path, "pq": pq}[module]
real, countdown, after = getattr(owner, name), [int(sys.argv[3])], int(sys.argv[4])

def killing(*args, **kwargs):
    countdown[0] -= 1
    if countdown[0] == 0 and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    found = real(*args, **kwargs)
    if countdown[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

with open_store(sys.argv[1]) as store:
    setattr(owner, name, killing)
    for commit in range(40):
        rows = rows_of(commit)
        if rows[0].key not in store:
            store.append(rows)
            print(commit, flush=True)
    store.seal()
"""


def forked(code: str, *args: object) -> tuple[int, set[int]]:
    """Run a child script in a fork (the imports are there already); its exit status and the numbers it printed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        sys.stdout = os.fdopen(1, "w")
        sys.argv = ["-c", *map(str, args)]
        try:
            exec(compile(code, "child", "exec"), {"__name__": "child"})
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines(keepends=True)
    _, status = os.waitpid(child, 0)
    return status, {int(line) for line in lines if line.endswith("\n")}


def stored_keys(folder: Path) -> list[tuple[str, int]]:
    """Every row of the parts, and of the journals whose part is not there."""
    return [r.key for r in open_store(folder).iter_rows()]


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("window", WINDOWS)
def test_killed_in_every_window_of_append_and_seal_nothing_is_lost_or_doubled(
    tmp_path: Path, window: str, after: int
) -> None:
    """64 kills over the parametrisations, each right before or right after a call that the disk sees."""
    reported = set[int]()
    for nth in (1, 2, 3, 1, 4, 1, 2, 5):
        status, said = forked(SMALL_PARTS + KILLED_IN, tmp_path, window, nth, after)
        reported |= said
        if os.WIFEXITED(status):  # too few such calls were left
            assert os.WEXITSTATUS(status) == 0
            continue
        keys = stored_keys(tmp_path)
        assert len(keys) == len(set(keys))
        commits = {int(r.text.split()[0]) for r in open_store(tmp_path).iter_rows()}
        assert reported <= commits and len(keys) == 2 * len(commits)
        reported = commits
    status, _ = forked(SMALL_PARTS + KILLED_IN, tmp_path, window, 10_000, after)
    assert status == 0
    assert len(stored_keys(tmp_path)) == 80 and not list(tmp_path.glob(".*.tmp"))
    whole = tmp_path / "undisturbed"
    assert forked(SMALL_PARTS + KILLED_IN, whole, window, 10_000, after)[0] == 0
    assert open_store(whole).load().content_hash() == open_store(tmp_path).load().content_hash()


def test_killed_at_random_instants_with_small_parts(tmp_path: Path) -> None:
    """Fifty kills in a row, while parts roll."""
    rng, reported = random.Random(3), set[int]()
    code = SMALL_PARTS + (
        "with open_store(sys.argv[1]) as store:\n"
        "    for commit in range(100_000):\n"
        "        rows = rows_of(commit)\n"
        "        if rows[0].key not in store:\n"
        "            store.append(rows); print(commit, flush=True)\n"
    )
    for _ in range(50):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(write, 1)
            sys.stdout = os.fdopen(1, "w")
            sys.argv = ["-c", str(tmp_path)]
            exec(compile(code, "child", "exec"), {"__name__": "child"})
            os._exit(1)
        os.close(write)
        time.sleep(rng.uniform(0.0, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            reported |= {int(line) for line in pipe.read().splitlines(keepends=True) if line.endswith("\n")}
    with open_store(tmp_path) as store:
        rows = list(store.iter_rows())
        commits = {int(r.text.split()[0]) for r in rows}
        assert commits and reported <= commits == set(range(len(commits)))
        assert len(rows) == len({r.key for r in rows}) == 2 * len(commits) == len(store)


# ------------------------------------------------------------------------------------------------------------ shards
def shard_store(folder: Path, text: str, identity: dict[str, Any] | None = None) -> AppendStore[Completion]:
    return AppendStore(folder, Completion, records.COMPLETION_SCHEMA, identity or IDENTITY, Shard.parse(text))


PROMPT_IDS = [stable_hash(n) for n in range(60)]


def test_shards_split_the_prompts_without_gap_or_overlap() -> None:
    for count in (1, 2, 3, 16, 60):
        shards = [Shard(i, count) for i in range(count)]
        for prompt in [*PROMPT_IDS, "0" * 16, "f" * 16, "a name", ""]:
            assert sum(prompt in shard for shard in shards) == 1
    sizes = [sum(p in Shard(i, 4) for p in map(stable_hash, range(4000))) for i in range(4)]
    assert min(sizes) > 900


@pytest.mark.parametrize("text", ["3", "a/b", "-1/4", "4/4", "0/0", "1/", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="shard="):
        Shard.parse(text)


def test_parallel_processes_fill_one_store_and_readers_see_the_union(tmp_path: Path) -> None:
    code = SMALL_PARTS + (
        "shard = Shard.parse(sys.argv[2])\n"
        "with open_store(sys.argv[1], shard) as store:\n"
        "    for commit in range(60):\n"
        "        rows = rows_of(commit)\n"
        "        if rows[0].prompt_id in shard: store.append(rows)\n"
        "    if sys.argv[3] == 'seal': store.seal()\n"
        "    print(len(store), flush=True)\n"
    )
    tasks = [spawn(code, tmp_path, f"{i}/3", "seal" if i else "leave") for i in range(3)]
    counts = [int(task.communicate(timeout=120)[0]) for task in tasks]
    assert sum(counts) == 120 and min(counts) > 0
    union = open_store(tmp_path).load()
    assert len(union) == len(list(union.iter_rows())) == 120
    with open_store(tmp_path.with_name("whole")) as store:
        store.append(list(union.iter_rows()))
        assert store.content_hash() == union.content_hash()
    with open_store(tmp_path) as store:  # the merge: it finds all, and adds beside them
        assert len(store) == 120
        store.append([row("one more")])
        store.seal()
        assert not [r for f in tmp_path.rglob(JOURNALS) for r in f.read_text().splitlines()]
    assert len(open_store(tmp_path).load()) == 121


def test_a_shard_is_held_by_one_and_partitions_do_not_mix_while_active(tmp_path: Path) -> None:
    with shard_store(tmp_path, "0/2"):
        with shard_store(tmp_path, "1/2"):
            with pytest.raises(UserError, match=r"shard 1/2 of the store .* is in use by process \d+"):
                shard_store(tmp_path, "1/2").__enter__()
            with pytest.raises(UserError, match=r"in use by shard 0/2 \(process .*1/2 .*: shard 0/3 is of another"):
                shard_store(tmp_path, "0/3").__enter__()
            with pytest.raises(UserError, match=r"in use by shard 0/2 .*cannot be written as a whole"):
                open_store(tmp_path).__enter__()
        with shard_store(tmp_path, "1/2"):
            pass
    with open_store(tmp_path), pytest.raises(UserError, match="is in use by process"):
        shard_store(tmp_path, "0/2").__enter__()
    with shard_store(tmp_path, "2/3"):  # all have ended
        pass


def test_another_partition_sees_what_is_there(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.append([row(p) for p in PROMPT_IDS[:20]])
    for i in range(2):
        with shard_store(tmp_path, f"{i}/2") as store:
            mine = [p for p in PROMPT_IDS[:40] if p in Shard(i, 2)]
            store.append([row(p) for p in mine if (p, 0) not in store])
            assert {p for p, _ in set(store.keys())} == set(mine) == {r.prompt_id for r in store.iter_rows()}
    for i in range(5):
        with shard_store(tmp_path, f"{i}/5") as store:
            mine = [p for p in PROMPT_IDS if p in Shard(i, 5)]
            missing = [p for p in mine if (p, 0) not in store]
            assert set(missing) == set(mine) & set(PROMPT_IDS[40:])
            store.append([row(p) for p in missing])
            assert len(store) == len(store.rows()) == len(mine)
    rows = [r.prompt_id for r in open_store(tmp_path).iter_rows()]
    assert sorted(rows) == sorted(PROMPT_IDS)


def test_every_shard_checks_the_identity_and_takes_only_its_own_rows(tmp_path: Path) -> None:
    mine = next(p for p in PROMPT_IDS if p in Shard(0, 2))
    with shard_store(tmp_path, "0/2") as store:
        store.append([row(mine)])
        other = next(p for p in PROMPT_IDS if p in Shard(1, 2))
        with pytest.raises(ValueError, match="does not belong to shard 0/2"):
            store.append([row(other)])
        with pytest.raises(UserError, match=r"temperature: 1\.0 -> 0\.7"):
            shard_store(tmp_path, "1/2", IDENTITY | {"temperature": 0.7}).__enter__()
    with pytest.raises(UserError, match=r"temperature: 1\.0 -> 0\.7"):
        open_store(tmp_path, IDENTITY | {"temperature": 0.7}).__enter__()


def test_a_killed_shard_leaves_no_lock_and_goes_on(tmp_path: Path) -> None:
    code = SMALL_PARTS + (
        "import time\n"
        "with open_store(sys.argv[1], Shard(0, 1)) as store:\n"
        "    store.append(rows_of(1)); print(1, flush=True); time.sleep(60)\n"
    )
    task = spawn(code, tmp_path)
    assert task.stdout is not None and task.stdout.readline() == "1\n"
    with pytest.raises(UserError, match=f"process {task.pid} on "):
        shard_store(tmp_path, "0/1").__enter__()
    task.kill()
    task.wait()
    with shard_store(tmp_path, "0/1") as store:
        assert len(store) == 2
