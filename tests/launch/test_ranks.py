"""Processes that train together end together: one of them, or their owner, is killed, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import runs, wait_until

from openr1.errors import OutsideError, UserError
from openr1.launch.ranks import Ranks, places, rank_environment
from openr1.log import set_sink
from openr1.metrics import MetricLog
from openr1.nodes.local import LocalNode
from openr1.stages.base import StageContext

# a rank that speaks the protocol and takes part in nothing
RANK = """
import json, os, signal, sys, time
from openr1.launch.child import die_with_parent
die_with_parent({parent})
rank = int(os.environ["RANK"])
def send(**event):
    print(json.dumps(event | {{"rank": rank}}), flush=True)
def result():
    return {{"outputs": {{"model": {{"kind": "model"}}}}, "results": {{"steps": 3}}}}
open({folder!r} + f"/{{rank}}.pid", "w").write(str(os.getpid()))
{body}
"""


class Seen:
    """A sink and a tracker that remember."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[Any] = []

    def progress(self, title: str, done: int, total: int, note: str) -> None:
        self.messages.append(f"{title} {done}/{total} {note}")

    def end(self, title: str) -> None:
        self.messages.append(f"end {title}")

    def message(self, text: str) -> None:
        self.messages.append(text)

    def log(self, step: int, values: Any) -> None:
        self.steps.append((step, values))

    def finish(self, ok: bool, summary: Any = None) -> None: ...


@pytest.fixture
def seen() -> Any:
    from openr1 import log

    before, sink = log.current_sink(), Seen()
    set_sink(sink)
    yield sink
    set_sink(before)


def started(folder: Path, body: str, count: int = 2, tracker: Any = None) -> Ranks:
    context = StageContext("run", "sft", folder, None, {}, MetricLog(folder / "metrics.jsonl", tracker))
    ranks = Ranks(context, folder)
    program = RANK.format(parent=os.getpid(), folder=str(folder), body=body)
    for place in places([LocalNode()], count):
        ranks.start([sys.executable, "-c", program], rank_environment(place, "127.0.0.1", 1))
    return ranks


def pids(folder: Path, count: int) -> list[int]:
    """The processes of all ranks, once they are there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [p.read_text() for p in (folder / f"{r}.pid" for r in range(count)) if p.exists()]
        if len(found) == count and all(found):
            return [int(p) for p in found]
        time.sleep(0.02)
    raise AssertionError("the ranks did not start")


def test_what_rank_0_says_is_handed_on_and_its_result_is_the_stages(tmp_path: Path, seen: Seen) -> None:
    body = """
if rank == 0:
    send(event="message", text="training with ddp")
    send(event="progress", title="sft", done=1, total=3, note="loss 1.0")
    send(event="metrics", step=1, values={"loss": 1.0})
    send(event="end", title="sft")
send(event="done", peak_memory_mb=10.0 + rank, result=result() if rank == 0 else None)
"""
    result = started(tmp_path, body, tracker=seen).wait()
    assert "sft 1/3 loss 1.0" in seen.messages and seen.steps == [(1, {"loss": 1.0})]
    assert result.outputs["model"].kind == "model"
    assert result.results == {"steps": 3, "parallel": {"peak_memory_mb": [10.0, 11.0]}}


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_rank_that_is_killed_ends_all_and_is_named(tmp_path: Path, victim: int) -> None:
    ranks = started(tmp_path, "time.sleep(600)", count=3)
    processes = pids(tmp_path, 3)
    os.kill(processes[victim], signal.SIGKILL)
    with pytest.raises(OutsideError, match=rf"rank {victim} was killed by signal 9.*see .*rank-{victim}.log"):
        ranks.wait()
    wait_until(lambda: not any(map(runs, processes)))


def test_the_one_that_was_killed_is_the_cause_and_not_its_neighbour_that_misses_it(tmp_path: Path) -> None:
    """Rank 0 reports a broken connection first, as gloo and NCCL do; rank 1 is found dead after it."""
    body = """
if rank == 0:
    send(event="failed", code=1, problems=["RuntimeError: Connection closed by peer"], bug=True, traceback="")
    sys.exit(1)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(OutsideError, match="rank 1 was killed by signal 9"):
        started(tmp_path, body).wait()


def test_what_the_user_can_mend_is_said_as_it_is(tmp_path: Path) -> None:
    body = """
if rank == 1:
    send(event="failed", code=1, problems=["train.max_length: raise it", "train.lr: lower it"])
    sys.exit(1)
time.sleep(600)
"""
    ranks = started(tmp_path, body)
    with pytest.raises(UserError) as e:
        ranks.wait()
    assert e.value.problems == ["train.max_length: raise it", "train.lr: lower it"]
    assert all(process.poll() is not None for process in ranks.processes)


def test_a_rank_that_leaves_without_a_word_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="rank 1 ended with code 7"):
        started(tmp_path, "sys.exit(7) if rank == 1 else time.sleep(600)").wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends a process with its parent")
def test_no_rank_outlives_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner = f"""
import sys
from pathlib import Path
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from test_ranks import started
started(Path({str(tmp_path)!r}), "time.sleep(600)").wait()
"""
    process = subprocess.Popen([sys.executable, "-c", owner])
    processes = pids(tmp_path, 2)
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(runs, processes)))
