"""A Hub and a W&B for tests, as separate processes that speak the real protocols and fail on demand.

Nothing in src imports them. `start("hub_server")` is a process at a free port of loopback; see `faults` for what it
can be told to do wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass
class Server:
    """A running server: its address, and what tests ask of it beside the protocol."""

    url: str
    process: subprocess.Popen[str]

    def admin(self, what: str, value: Any = None) -> Any:
        data = json.dumps(value).encode()
        with urllib.request.urlopen(f"{self.url}/_admin/{what}", data=data, timeout=30) as answer:
            return json.load(answer)

    def fault(self, kind: str | int, path: str, method: str = ".*", times: int = 1, **more: Any) -> None:
        """The next `times` calls that match go wrong: a status, or reset, hang, truncate, slow, lost."""
        self.admin("fault", {"kind": kind, "path": path, "method": method, "times": times, **more})

    def heal(self) -> None:
        self.admin("heal")

    def calls(self) -> list[str]:
        """`METHOD path status` of everything that was answered."""
        return list(self.admin("calls"))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)


@contextmanager
def start(name: str) -> Iterator[Server]:
    """The server `name` in a process of its own, until the block ends."""
    command = [sys.executable, str(HERE / f"{name}.py")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "WANDB_"))}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    server = Server(process.stdout.readline().strip(), process)
    try:
        assert server.url.startswith("http"), "the server did not start"
        yield server
    finally:
        server.stop()
