"""Verify overlaps generate: the same verdicts, sooner; killing the process that follows loses and stops nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_run import ScriptedServer, completions, manifest, openr1, start, verdicts, words


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(tmp_path / "server", "--model", "tiny") as server:
        yield server


def said(folder: Path) -> list[tuple[str, int, str, str | None, str | None]]:
    return [(v.prompt_id, v.sample_index, v.status, v.extracted, v.text_hash) for v in verdicts(folder)]


def follower_of(process: psutil.Process) -> psutil.Process | None:
    for child in process.children():
        if "openr1.launch.follow" in child.cmdline():
            return child
    return None


@pytest.mark.slow
def test_verdicts_are_those_of_a_stage_that_waits(tmp_path: Path, server: ScriptedServer) -> None:
    server.control(latency=0.8)
    run = ["run", *words(server.url, prompts=60)]
    overlapped = openr1(tmp_path, *run)
    assert overlapped.returncode == 0, overlapped.stderr
    assert "grades while generate runs" in overlapped.stderr
    found = manifest(tmp_path, "verify")
    assert found["counts"]["in"] == found["counts"]["out"] == 120
    assert found["counts"]["new"] < 120, "nothing was graded while completions were made"
    server.control(latency=0.0)
    apart = tmp_path / "apart"
    apart.mkdir()
    assert openr1(apart, *run, "stages.verify.overlap=false").returncode == 0
    assert manifest(apart, "verify")["counts"]["new"] == 120
    assert said(apart) == said(tmp_path)
    assert manifest(apart, "verify")["results"] == found["results"]


@pytest.mark.slow
def test_killing_the_follower_stops_nothing(tmp_path: Path, server: ScriptedServer) -> None:
    server.control(latency=0.8)
    task = start(tmp_path, "run", *words(server.url, prompts=40))
    process = psutil.Process(task.pid)
    deadline = time.monotonic() + 120
    while (follower := follower_of(process)) is None:
        assert task.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(follower.pid, signal.SIGKILL)
    _, log = task.communicate(timeout=300)
    assert task.returncode == 0, log
    assert "has ended (signal 9); nothing is lost" in log
    assert len(verdicts(tmp_path)) == len(completions(tmp_path)) == 80


@pytest.mark.slow
def test_the_follower_dies_with_its_parent(tmp_path: Path, server: ScriptedServer) -> None:
    server.control(latency=2.0)
    run = ["run", *words(server.url, prompts=40)]
    task = start(tmp_path, *run)
    process = psutil.Process(task.pid)
    deadline = time.monotonic() + 120
    while (follower := follower_of(process)) is None:
        assert task.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    task.kill()
    task.communicate()
    while follower.is_running() and follower.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.control(latency=0.0)
    done = openr1(tmp_path, *run)
    assert done.returncode == 0, done.stderr
    keys = [(v.prompt_id, v.sample_index) for v in verdicts(tmp_path)]
    assert len(keys) == len(set(keys)) == 80
