"""This machine, and the processes that are started on it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from openr1.nodes.base import PARENT, Command
from openr1.nodes.network import bind, ports_of

LOOK_MS = 500


class LocalProcess:
    """A child of this process."""

    lost = False

    def __init__(self, command: Command) -> None:
        self.session = command.session
        self._scratch = tempfile.mkdtemp(prefix="openr1-") if command.scratch else None
        own = {command.scratch: self._scratch} if command.scratch and self._scratch else {}
        out = open(command.log, "ab") if command.log is not None else None  # noqa: SIM115 (closed below)
        try:
            self._process = subprocess.Popen(
                list(command.words),
                stdin=subprocess.PIPE,
                stdout=out or subprocess.PIPE,
                stderr=out,
                env={**os.environ, **command.environment, **own, PARENT: str(os.getpid())},
                start_new_session=command.session,
            )
        finally:
            if out is not None:
                out.close()
        self.pid = self._process.pid
        self._ending = threading.Lock()
        self._cleaned = False

    def lines(self) -> Iterator[str]:
        if self._process.stdout is None:
            return
        pipe, rest = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while True:  # the pipe may stay open after its end: a child that it left has inherited it
            if poll.poll(LOOK_MS):
                if not (data := os.read(pipe, 1 << 16)):
                    break
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace") + "\n"
            elif self._process.poll() is not None:
                break
        if rest:
            yield rest.decode("utf-8", "replace")

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self._clean()
        return code

    def wait(self, timeout: float | None = None) -> int:
        code = self._process.wait(timeout)
        self._clean()
        return code

    def _clean(self) -> None:
        """What it may have left: processes of its group, where it was killed before it could end them; its scratch."""
        with self._ending:
            if self._cleaned:
                return
            self._cleaned = True
            if self.session:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def close_input(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL) if self.session else self._process.kill()


@dataclass
class LocalPort:
    """A port of this machine that is kept by a socket that does not listen."""

    bound: socket.socket
    number: int = 0

    def __post_init__(self) -> None:
        self.number = self.bound.getsockname()[1]

    def close(self) -> None:
        self.bound.close()


@dataclass
class LocalNode:
    """This machine; by itself at its loopback address, with ports that the kernel chooses."""

    name: str = "localhost"
    address: str = "127.0.0.1"
    interface: str | None = None
    gpus: list[str] = field(default_factory=list)
    job: str | None = None

    def start(self, command: Command) -> LocalProcess:
        return LocalProcess(command)

    def port(self, purpose: str) -> LocalPort:
        ports = ports_of(self.job, purpose) if self.job is not None else None
        return LocalPort(bind(self.address, ports, keep=True))
