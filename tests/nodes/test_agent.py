"""Processes on another node: an agent in a process of its own, on loopback, and what becomes of what it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import runs, wait_until

from openr1.errors import OutsideError
from openr1.nodes.agent import Agent
from openr1.nodes.base import Command
from openr1.nodes.local import LocalNode
from openr1.nodes.remote import RemoteNode
from openr1.nodes.wire import Wire

AGENT = """
import sys, time
from openr1.nodes.agent import Agent
from openr1.nodes.local import LocalNode
agent = Agent(LocalNode("n2", "127.0.0.1", "lo", [], "7"), "7", "secret", {})
print(agent.port, flush=True)
sys.stdin.read()
agent.close()
"""


class There:
    """Another node: its agent's process."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", AGENT], **pipes)  # type: ignore[call-overload]
        self.port = int(self.process.stdout.readline())
        self.card = {
            "name": "n2", "address": "127.0.0.1", "port": self.port, "interface": "lo", "gpus": [], "key": "secret"
        }  # fmt: skip
        self.node = RemoteNode(self.card, "7")


@pytest.fixture
def there() -> Iterator[There]:
    made = There()
    yield made
    made.process.kill()
    made.process.wait()


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_output_exit_codes_and_signals_go_through(there: There, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['X'], os.environ['OPENR1_PARENT']); print('zwei ä'); sys.exit(7)"
    process = there.node.start(Command(python(code), {"X": "eins"}))
    assert list(process.lines()) == [f"eins {there.process.pid}\n", "zwei ä\n"]
    assert process.wait(10) == 7 and not process.lost
    sleeper = there.node.start(Command(python("import time; print('up', flush=True); time.sleep(600)"), {}))
    assert next(sleeper.lines()) == "up\n" and sleeper.poll() is None
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM
    log = tmp_path / "log"
    logged = there.node.start(Command(python("print('into the log')"), {}, log=log))
    assert list(logged.lines()) == [] and logged.wait(10) == 0 and log.read_text() == "into the log\n"
    with pytest.raises(OutsideError, match="n2: /no/such/program: No such file"):
        there.node.start(Command(["/no/such/program"], {}))


def test_a_process_ends_with_its_owner_and_so_does_its_group(there: There, tmp_path: Path) -> None:
    """The owner is killed: the connection closes, and nothing of the process is left on the other node."""
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    owner = (
        "from openr1.nodes.base import Command\n"
        "from openr1.nodes.remote import RemoteNode\n"
        f"node = RemoteNode({there.card!r}, '7')\n"
        f"node.start(Command({python(code)!r}, {{}}, session=True, scratch='SCRATCH')).wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", owner])
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    parent, child = map(int, pids.read_text().split())
    assert runs(parent) and runs(child)
    process.kill()
    process.wait()
    wait_until(lambda: not runs(parent) and not runs(child), 60)


def test_a_lost_node_is_told_from_a_process_that_failed(there: There) -> None:
    process = there.node.start(Command(python("import time; time.sleep(600)"), {}))
    pid = process.pid
    there.process.kill()
    there.process.wait()
    assert process.wait(30) == 255 and process.lost
    with pytest.raises(OutsideError, match="n2: cannot be reached at 127.0.0.1"):
        there.node.start(Command(["true"], {}))
    os.kill(pid, signal.SIGKILL)  # what openr1 starts dies with its parent; this one is not ours


def test_closing_the_agent_ends_what_it_started(there: There) -> None:
    process = there.node.start(Command(python("import time; time.sleep(600)"), {}))
    there.process.stdin.close()  # type: ignore[union-attr]
    assert there.process.wait(30) == 0
    wait_until(lambda: not runs(process.pid))


def test_a_port_is_kept_for_as_long_as_it_is_wanted(there: There) -> None:
    port = there.node.port("vllm 0")
    again = there.node.port("vllm 0")
    assert port.number != again.number
    assert not binds(port.number)
    port.close()

    wait_until(lambda: binds(port.number))
    again.close()


def binds(port: int) -> bool:
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_who_does_not_know_the_key_gets_nothing() -> None:
    seen = threading.Event()
    agent = Agent(LocalNode("n1", "127.0.0.1"), "8", "secret", {"look": lambda wire, _: seen.set()})
    try:
        for key in ("guess", "", None):
            wire = Wire.to("127.0.0.1", agent.port, 5)
            wire.send(key=key, do="look")
            assert wire.receive(10) is None
        assert not seen.is_set()
        wire = Wire.to("127.0.0.1", agent.port, 5)
        wire.send(key="secret", do="look")
        assert seen.wait(10)
    finally:
        agent.close()
