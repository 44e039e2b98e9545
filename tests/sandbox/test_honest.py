"""Honest programs keep their verdicts on a loaded machine, and while workers are killed. 10,000 of them when slow."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress

import pytest
from honest import Known, programs

from openr1.sandbox import Sandbox

PROGRAMS = int(os.environ.get("OPENR1_TEST_HONEST", "10000"))


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that keep the cores busy meanwhile."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def wrong(sandbox: Sandbox, known: list[Known], kill_every: int = 0) -> list[str]:
    """Verdicts that are not the known ones; every so many programs one worker is killed."""
    draw, found = random.Random(1), []
    with ThreadPoolExecutor(sandbox.workers * 2) as pool:
        waiting = {pool.submit(sandbox.run, k.program, k.language, k.inputs): k for k in known}
        for number, future in enumerate(as_completed(waiting)):
            k = waiting[future]
            outcomes = [(outcome.status, outcome.stdout.decode()) for outcome in future.result()]
            if outcomes != k.expected:
                found.append(f"{k.program!r}: {str(future.result())[:500]} instead of {str(k.expected)[:200]}")
            if kill_every and number % kill_every == 0 and (pids := sandbox.worker_pids()):
                with suppress(ProcessLookupError):
                    os.kill(draw.choice(pids), signal.SIGKILL)
    return found


def test_honest_programs_keep_their_verdicts() -> None:
    with Sandbox(workers=2) as sandbox:
        assert wrong(sandbox, programs(80)) == []


def test_killed_workers_cost_no_verdict() -> None:
    with Sandbox(workers=2) as sandbox:
        assert wrong(sandbox, programs(80, seed=1), kill_every=20) == []


@pytest.mark.slow
def test_none_is_wrong_on_a_loaded_machine() -> None:
    with Sandbox(workers=4) as sandbox, load(2 * (os.cpu_count() or 1)):
        assert wrong(sandbox, programs(PROGRAMS, seed=2)) == []


@pytest.mark.slow
def test_none_is_wrong_and_none_is_lost_while_workers_are_killed() -> None:
    with Sandbox(workers=4) as sandbox, load(os.cpu_count() or 1):
        assert wrong(sandbox, programs(PROGRAMS, seed=3), kill_every=40) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "openr1-sandbox"]
