"""What a node of a job listens with, so that the first one can start processes on it and keep ports there.

Who knows the key of the job may ask; it lies in a file that only the user can read. A request is a connection:

    run    starts a process; its lines and its exit code come back, signals go in, and it ends with the connection
    port   keeps a port for as long as the connection lasts
    NAME   what `handlers` answer
"""

from __future__ import annotations

import hmac
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from openr1.nodes.base import Command
from openr1.nodes.local import LocalNode, LocalProcess
from openr1.nodes.network import bind, ports_of
from openr1.nodes.wire import Wire

MOST_ASKED = 1 << 20
GRACE_S = 30.0  # for a process with an input that closes: it ends what is below it
Handler = Callable[[Wire, Mapping[str, Any]], None]


class Agent:
    """The listening end on this node. `close` ends every process that was started through it."""

    def __init__(self, node: LocalNode, job: str, key: str, handlers: Mapping[str, Handler]) -> None:
        self.node, self.key, self.handlers = node, key, dict(handlers)
        self._processes: set[LocalProcess] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._listening = bind(node.address, ports_of(job, f"agent of {node.name}"))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, name="agent", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Wire(connection),), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        try:
            request = wire.receive(timeout=10, most=MOST_ASKED)
            if request is None or not hmac.compare_digest(str(request.get("key")), self.key):
                return
            match request["do"]:
                case "run":
                    self._run(wire, request)
                case "port":
                    self._port(wire, request)
                case name if name in self.handlers:
                    self.handlers[name](wire, request)
        finally:
            wire.close()

    def _run(self, wire: Wire, request: Mapping[str, Any]) -> None:
        command = Command.of_json(request)
        try:
            with self._lock:
                if self._closed:
                    return
                process = self.node.start(command)
                self._processes.add(process)
        except OSError as e:
            wire.send(error=f"{command.words[0]}: {e.strerror or e}")
            return
        wire.send(pid=process.pid)
        threading.Thread(target=self._obey, args=(wire, process), daemon=True).start()
        for line in process.lines():
            wire.send(line=line)
        code = process.wait()
        self._processes.discard(process)
        wire.send(code=code)

    def _obey(self, wire: Wire, process: LocalProcess) -> None:
        for message in wire.messages():
            if "signal" in message:
                process.send_signal(message["signal"])
            elif message.get("close_input"):
                process.close_input()
            elif message.get("kill"):
                process.kill()
        end(process)

    def _port(self, wire: Wire, request: Mapping[str, Any]) -> None:
        port = self.node.port(request["purpose"])
        wire.send(port=port.number)
        for _ in wire.messages():
            pass
        port.close()

    def close(self) -> None:
        """End every process that was started through it."""
        with self._lock:
            self._closed = True
        self._listening.close()
        threads = [threading.Thread(target=end, args=(p,)) for p in list(self._processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def end(process: LocalProcess) -> None:
    """End a process whose owner is gone: one with a session of its own is a watcher, which cleans up first."""
    if process.session:
        process.close_input()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    process.kill()


def end_below(found: Callable[[int], list[int]], patience: float = 10.0) -> None:
    """Kill every process below this one, which is their subreaper: in whatever session they run.

    `found` tells the living descendants of a process.
    """
    limit = time.monotonic() + patience
    while (left := found(os.getpid())) and time.monotonic() < limit:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
