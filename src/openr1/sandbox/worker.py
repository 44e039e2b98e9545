"""One sandbox process seen from outside: start it, hand it open files, hear how its child ended, kill it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
SLACK_SECONDS = 30.0
STARVED = 11  # the zygote may stretch the wall limit ten times on a machine under load
MODULES = ("syscalls", "confine", "program", "child", "zygote")
# The modules come over the socket, so no file of ours has to be readable in there.
_BOOT = """
import json, socket, sys, types
sys.path.pop(0)
fd = int(sys.argv[1])
sock = socket.socket(fileno=fd)
texts, setup = json.loads(sock.recv(1 << 20))
sock.detach()
package = types.ModuleType("inside")
package.__path__ = []
sys.modules["inside"] = package
for name, text in texts.items():
    module = types.ModuleType("inside." + name)
    module.__package__ = "inside"
    sys.modules["inside." + name] = module
    setattr(package, name, module)
    exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
module.main(fd, setup)
"""


class Broken(Exception):
    """The sandbox did not start, is gone, or does not answer: never the program's fault."""


@dataclass(frozen=True)
class Launch:
    """How one kind of sandbox is started: the command, with {fd} where the socket's number goes, and its set-up."""

    command: tuple[str, ...]
    setup: dict[str, Any]
    environment: dict[str, str]
    popen: dict[str, Any]
    folder: Path | None = None
    """Where it works, where that is a folder of the host; removed with it."""


def zygote_command(python: str) -> list[str]:
    return [python, "-s", "-S", "-B", "-X", "utf8", "-c", _BOOT, "{fd}"]


class Worker:
    """A started sandbox. It belongs to the thread that starts it, and the kernel kills it when that thread ends."""

    def __init__(self, launch: Launch) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock = ours
        self.programs = 0
        self.folder = launch.folder
        with theirs:
            fd = theirs.fileno()
            try:
                self.process = _started(launch, fd)
            except Broken:
                ours.close()
                self._remove_folder()
                raise
        try:
            self._send(json.dumps([_texts(), launch.setup]).encode(), [])
            self.facts = self._receive(START_SECONDS)
            if "failed" in self.facts:
                raise Broken(self.facts["failed"])
        except Broken:
            self.kill()
            raise

    def run(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """One child from start to end; the reply says how it ended."""
        self._send(json.dumps(request).encode(), fds)
        return self._receive(request["limits"]["wall_s"] * STARVED + SLACK_SECONDS)

    def _send(self, message: bytes, fds: list[int]) -> None:
        try:
            socket.send_fds(self.sock, [message], fds)
        except OSError as error:
            raise Broken(self._last_words() or str(error)) from error

    def _receive(self, seconds: float) -> dict[str, Any]:
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        if not poller.poll(seconds * 1000):
            raise Broken(f"the sandbox did not answer within {seconds:.0f} s")
        try:
            message = self.sock.recv(1 << 16)
            if message:
                reply: dict[str, Any] = json.loads(message)
                return reply
        except (OSError, ValueError) as error:
            raise Broken(str(error)) from error
        raise Broken(self._last_words() or "the sandbox ended without a word")

    def _last_words(self) -> str:
        assert self.process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        fd = self.process.stderr.fileno()
        os.set_blocking(fd, False)
        with contextlib.suppress(BlockingIOError):
            lines = os.read(fd, 1 << 16).decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:500] if lines else ""
        return ""

    def kill(self) -> None:
        """End it and everything in it: its process group here, its namespace there."""
        self.sock.close()
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._remove_folder()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _remove_folder(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _started(launch: Launch, fd: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [str(fd) if word == "{fd}" else word for word in launch.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(fd,),
            env=launch.environment,
            cwd="/",
            start_new_session=True,
            **launch.popen,
        )
    except OSError as error:
        raise Broken(f"{launch.command[0]}: {error.strerror}") from error


def _texts() -> dict[str, str]:
    inside = resources.files("openr1.sandbox") / "inside"
    return {name: (inside / f"{name}.py").read_text() for name in MODULES}


# ------------------------------------------------------------------------------------------------- files in memory
def sealed(name: str, data: bytes) -> int:
    """An open file in memory with this content, which nobody can change any more."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view, done = memoryview(data), 0
    while done < len(data):
        done += os.write(fd, view[done:])
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(
        fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    )
    return fd


def read_back(fd: int, most: int, from_end: bool = False) -> tuple[bytes, int]:
    """At most `most` bytes of a file in memory, and how long it is."""
    size = os.fstat(fd).st_size
    offset = max(0, size - most) if from_end else 0
    parts = []
    left = min(size, most)
    while left > 0 and (part := os.pread(fd, left, offset)):
        parts.append(part)
        offset += len(part)
        left -= len(part)
    return b"".join(parts), size
