"""The remote tier: the same interface on a Piston server, and what its troubles become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openr1.errors import OutsideError, UserError
from openr1.sandbox import Case, Limits, Sandbox, tiers

RAN = {"stdout": "5\n", "stderr": "", "code": 0, "signal": None, "output": "5\n"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("piston_server.py"))], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    yield f"http://127.0.0.1:{server.stdout.readline().strip()}/api/v2"
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.fixture
def piston(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setenv("OPENR1_PISTON", url)
    with Sandbox(workers=1, tier="piston") as sandbox:
        yield sandbox


def play(*replies: Any) -> str:
    return f"# play: {json.dumps(replies)}\n# {play.__name__}"


def test_the_same_interface(piston: Sandbox) -> None:
    assert piston.tier == piston.describe()["tier"] == "piston"
    outcomes = piston.run(
        "import sys; print(int(input()) * 2, *sys.argv[1:])", "python", ["21", Case("4", ("a",)), "x"]
    )
    assert [(o.status, o.stdout) for o in outcomes] == [("ok", b"42\n"), ("ok", b"8 a\n"), ("error", b"")]
    assert b"ValueError" in outcomes[2].stderr and outcomes[2].exit_code == 1


@pytest.mark.parametrize(
    "replies, status",
    [
        ([{"run": RAN}], "ok"),
        ([500, 503, {"run": RAN}], "ok"),
        ([429, {"run": {**RAN, "status": "XX", "message": "box full"}}, {"run": RAN}], "ok"),
        ([{"nothing": 1}, {"run": RAN}], "ok"),
        ([{"run": {**RAN, "code": 1, "status": "RE"}}], "error"),
        ([{"run": {**RAN, "code": None, "signal": "SIGSEGV", "status": "SG"}}], "error"),
        ([{"run": {**RAN, "code": None, "signal": "SIGKILL", "status": "TO", "cpu_time": 5000}}], "cpu_timeout"),
        ([{"run": {**RAN, "code": None, "signal": "SIGKILL", "status": "TO", "cpu_time": 10}}], "wall_timeout"),
        ([{"run": {**RAN, "code": None, "signal": "SIGKILL"}}], "wall_timeout"),
        ([{"run": {**RAN, "status": "OL", "code": None, "signal": "SIGKILL"}}], "output_limit"),
        ([{"run": {**RAN, "code": 1, "status": "RE", "memory": 600 << 20}}], "memory"),
        ([{"compile": {"code": 1, "stderr": "no", "output": "no"}, "run": RAN}], "compile_error"),
        ([503], "infra_error"),
        ([{"run": {**RAN, "status": "XX"}}], "infra_error"),
    ],
)  # fmt: skip
def test_what_a_server_says_in_our_words(piston: Sandbox, replies: list[Any], status: str) -> None:
    [outcome] = piston.run(play(*replies), "python", [""])
    assert outcome.status == status
    assert outcome.stdout == (b"5\n" if status not in ("compile_error", "infra_error") else b"")
    assert status != "infra_error" or outcome.stderr.startswith(b"Piston at http://127.0.0.1")


def test_what_it_refuses_is_said(piston: Sandbox) -> None:
    with pytest.raises(OutsideError, match="HTTP 400.*cannot exceed the configured limit of 60000"):
        piston.run("print(1)", "python", [""], limits=Limits(wall_s=100))
    with pytest.raises(UserError, match="not UTF-8"):
        piston.run("print(1)", "python", [b"\xff"])
    with pytest.raises(UserError, match="language c: the Piston server at .* has no runtime"):
        piston.run("int main(){}", "c", [""])


def test_a_server_is_used_only_when_asked_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_PISTON", url)
    assert tiers.choose(None) in tiers.LOCAL_TIERS
    assert tiers.survey()["tiers"]["piston"] == {"works": True, "reason": ""}
    monkeypatch.setenv("OPENR1_SANDBOX", "piston")
    assert tiers.choose(None) == "piston"


def test_no_server_is_an_error_of_the_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENR1_PISTON", raising=False)
    with pytest.raises(OutsideError, match="no server is named; set OPENR1_PISTON"):
        Sandbox(tier="piston")
    monkeypatch.setenv("OPENR1_PISTON", "http://127.0.0.1:9/api/v2")
    with pytest.raises(OutsideError, match="http://127.0.0.1:9/api/v2 does not list its runtimes"):
        Sandbox(tier="piston")
