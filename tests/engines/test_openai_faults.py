"""The openai engine against endpoints that fail: every row done or a recorded failure, nothing asked for twice."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai_server import ScriptedServer
from test_openai import SAMPLING, engine_for, requests, rows_of

from openr1.engines import collect, endpoints, wire
from openr1.engines.base import Request
from openr1.engines.http_engine import HTTPEngine
from openr1.errors import OutsideError, UserError
from openr1.records import COMPLETION_SCHEMA, Completion
from openr1.store import AppendStore

FLAKY = {"p_500": 0.10, "p_hang": 0.05, "p_malformed": 0.02, "p_truncated": 0.01, "p_reset": 0.01}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with ScriptedServer(folder / "a") as a, ScriptedServer(folder / "b") as b:
        yield a, b


@pytest.fixture
def servers(pair: tuple[ScriptedServer, ScriptedServer]) -> tuple[ScriptedServer, ScriptedServer]:
    for server in pair:
        server.calm()
    return pair


def open_store(folder: Path) -> AppendStore[Completion]:
    return AppendStore(folder, Completion, COMPLETION_SCHEMA, {"sampling": SAMPLING.identity()})


def exactly(rows: list[Completion], asked: list[Request]) -> bool:
    return Counter(r.key for r in rows) == Counter(r.key for r in asked)


# ------------------------------------------------------------------------------------------------ one that is flaky
def test_a_flaky_endpoint_gets_every_row_done(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    server, asked = servers[0], requests(150, 1)
    calm = {r.key: r.text for r in rows_of(engine_for(server), asked)}
    server.control(**FLAKY, storm_every=1.5, storm_for=0.4, retry_after=0.4)
    before = server.stats()
    rows = rows_of(engine_for(server, request_timeout_s=0.7), asked)
    after = server.stats()
    assert all(after[kind] > before[kind] for kind in ("429", "500", "hang", "malformed")), after
    assert exactly(rows, asked)
    assert {r.key: r.text for r in rows if r.error is None} == {k: v for k, v in calm.items()}


def test_a_request_that_keeps_failing_is_a_recorded_failure(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    server, asked = servers[0], requests(60, 1)
    server.control(p_500=0.3)
    rows = rows_of(engine_for(server, retries=0), asked)
    failed = [r for r in rows if r.error]
    assert exactly(rows, asked) and 3 <= len(failed) <= 40
    assert all(r.error and r.error.endswith("HTTP 500: internal error (1 tries)") for r in failed)


@pytest.mark.slow
def test_calm_time_and_flaky_time(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    """The flaky endpoint costs at most half as much again as the calm one, beyond what the faults themselves cost."""
    server, asked, timeout, window = servers[0], requests(2400, 1), 2.0, 32
    server.control(latency=0.25)
    began = time.monotonic()
    assert exactly(rows_of(engine_for(server, concurrency=window), asked), asked)
    calm = time.monotonic() - began
    server.control(**FLAKY, storm_every=4.0, storm_for=0.5, retry_after=0.5)
    before, began = server.stats(), time.monotonic()
    rows = rows_of(engine_for(server, concurrency=window, request_timeout_s=timeout), asked)
    flaky = time.monotonic() - began
    storms = math.ceil(flaky / 4.0)
    hung = server.stats()["hang"] - before["hang"]
    injected = hung * timeout / window + storms * (0.5 + 0.5)
    faults = f"{hung} hung x {timeout} s / {window} + {storms} storms"
    print(f"\ncalm {calm:.1f} s, flaky {flaky:.1f} s; injected: {faults} = {injected:.1f} s")
    print(f"(flaky - injected) / calm = {(flaky - injected) / calm:.2f}")
    assert exactly(rows, asked) and not any(r.error for r in rows)
    assert flaky <= 1.5 * calm + injected


@pytest.mark.parametrize("as_date", [False, True])
def test_a_pause_that_is_asked_for_is_obeyed(as_date: bool, servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    server, asked = servers[0], requests(40, 1)
    server.control(p_429=1.0, retry_after=2.0, retry_after_date=as_date)
    lifted = threading.Timer(1.0, lambda: server.control(p_429=0.0))
    lifted.start()
    before = server.stats()["429"]
    rows = rows_of(engine_for(server, retries=0, concurrency=8), asked)
    assert exactly(rows, asked) and not any(r.error for r in rows), "a pause is no try"
    assert server.stats()["429"] - before <= 8, "nothing is sent into the pause"


def test_a_storm_of_429_without_end_is_no_row(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    servers[0].control(p_429=1.0)
    with pytest.raises(OutsideError, match="no answer for .* s .*HTTP 429.*same command goes on"):
        rows_of(engine_for(servers[0], max_wait_s=2), requests(10, 1))


def test_an_endpoint_that_only_fails_is_no_row(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    servers[0].control(p_500=1.0)
    before = servers[0].stats()["500"]
    with pytest.raises(OutsideError, match="HTTP 500"):
        rows_of(engine_for(servers[0], max_wait_s=2, concurrency=8), requests(100, 1))
    assert servers[0].stats()["500"] - before < 40, "its circuit is open"


def test_a_quota_that_is_spent_ends_the_run(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    engine = engine_for(servers[0])
    servers[0].control(status=429, message="You exceeded your current quota")
    with pytest.raises(UserError, match="no quota left"):
        rows_of(engine, requests(10, 1))


# --------------------------------------------------------------------------------------------------------- several
def test_work_goes_where_it_is_done(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    slow, fast = servers
    slow.control(latency=0.4)
    fast.control(latency=0.02)
    before = [s.stats()["answered"] for s in servers]
    rows = rows_of(engine_for(*servers, concurrency=8), requests(150, 1))
    by_slow, by_fast = (s.stats()["answered"] - b for s, b in zip(servers, before, strict=True))
    assert exactly(rows, requests(150, 1)) and by_slow + by_fast == 150
    assert by_fast > 3 * by_slow > 0


def test_a_storm_at_one_endpoint_stops_only_that_one(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    stormy, calm = servers
    stormy.control(p_429=1.0, retry_after=30)
    before = stormy.stats()["requests"]
    rows = rows_of(engine_for(*servers, concurrency=8), requests(100, 1))
    assert exactly(rows, requests(100, 1)) and not any(r.error for r in rows)
    assert stormy.stats()["requests"] - before <= 8


def test_one_of_two_endpoints_dies_midway(tmp_path: Path, servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    asked = requests(120, 1)
    servers[0].control(latency=0.02)
    with ScriptedServer(tmp_path, "--die-after", "25", "--latency", "0.02") as mortal:
        rows = rows_of(engine_for(mortal, servers[0], concurrency=16), asked)
        assert mortal.process.wait(timeout=10) == -signal.SIGKILL
    assert exactly(rows, asked) and not any(r.error for r in rows)


def test_all_die_and_the_same_command_asks_only_for_the_missing(tmp_path: Path) -> None:
    asked = requests(60, 2)
    with ScriptedServer(tmp_path, "--die-after", "50", "--latency", "0.01") as mortal, open_store(tmp_path / "s") as s:
        engine = engine_for(mortal, concurrency=8, max_wait_s=1)
        with pytest.raises(OutsideError, match="cannot connect: Connection refused.*what is committed is kept"):
            collect(engine, asked, SAMPLING, s)
        kept = set(s.keys())
        assert 35 <= len(kept) < 60
    with ScriptedServer(tmp_path) as second, open_store(tmp_path / "s") as s:
        collect(engine_for(second), asked, SAMPLING, s)
        assert second.stats()["requests"] == len(asked) - len(kept)
        assert set(s.keys()) == {r.key for r in asked}
        assert not any(r.error for r in s.rows())


def test_an_endpoint_that_comes_back_is_used_again(tmp_path: Path) -> None:
    asked = requests(80, 1)
    with ScriptedServer(tmp_path, "--die-after", "30") as mortal:
        engine = engine_for(mortal, concurrency=8, retries=2)
        revived: list[ScriptedServer] = []

        def revive() -> None:
            mortal.process.wait()
            time.sleep(0.5)
            revived.append(ScriptedServer(tmp_path, port=mortal.port))

        nurse = threading.Thread(target=revive)
        nurse.start()
        rows = rows_of(engine, asked)
        nurse.join()
        revived[0].kill()
    assert exactly(rows, asked) and not any(r.error for r in rows)


def test_a_server_that_hangs_whole_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests may take an hour; that the server does not answer a probe either shows that it never will."""
    monkeypatch.setattr(endpoints, "SILENCE_S", 0.5)
    monkeypatch.setattr("openr1.engines.transport.PROBE_TIMEOUT_S", 0.5)
    with ScriptedServer(tmp_path, "--latency", "0.05") as server:
        engine = engine_for(server, max_wait_s=1.5, concurrency=4)
        commits = engine.generate(requests(100, 1), SAMPLING)
        assert next(commits)
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(OutsideError, match="no answer for"):
            list(commits)


def test_a_server_that_its_keeper_calls_gone_gets_no_more_work(servers: tuple[ScriptedServer, ScriptedServer]) -> None:
    gone: set[str] = set()
    urls = [s.url for s in servers]

    def watch(url: str) -> str | None:
        return "its process ended with code 1" if url in gone else None

    engine = HTTPEngine(urls, "tiny", watch=watch, concurrency=4)
    servers[0].control(latency=0.05)
    servers[1].control(latency=0.05)
    commits = engine.generate(requests(100, 1), SAMPLING)
    next(commits)
    gone.add(urls[0])
    time.sleep(0.3)
    before = servers[0].stats()["requests"]
    for _ in range(5):
        next(commits)
    assert servers[0].stats()["requests"] == before
    gone.add(urls[1])
    with pytest.raises(OutsideError, match="its process ended with code 1"):
        list(commits)


# ------------------------------------------------------------------------------------------------------ the protocol
def test_retry_after_is_seconds_or_a_date() -> None:
    assert wire.retry_after("1.5") == 1.5 and wire.retry_after(None) is None and wire.retry_after("soon") is None
    assert wire.retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=784111770) == 7.0
    assert wire.retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=784111800) == 0.0


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"choices": []}', b'{"choices": [{"finish_reason": "stop"}]}', b"<html>", b"null"]
)
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_broken_body_is_no_reply(data: bytes, api: wire.API) -> None:
    with pytest.raises(wire.BrokenReply, match="a malformed reply"):
        wire.parse_reply(data, api)


@pytest.mark.parametrize("reason", ["null", '"abort"'])
def test_an_unfinished_reply_is_asked_for_again(reason: str) -> None:
    with pytest.raises(wire.BrokenReply, match="unfinished"):
        wire.parse_reply(b'{"choices": [{"text": "x", "finish_reason": %s}]}' % reason.encode(), "completions")
