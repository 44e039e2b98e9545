"""Another node of the job, as the process that works with it sees it."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping
from queue import Queue
from typing import Any

from openr1.errors import OutsideError
from openr1.nodes.base import Command
from openr1.nodes.wire import Wire

CONNECT_S, ANSWER_S = 20.0, 60.0
LOST = 255


class RemoteProcess:
    """A process that the agent of another node has started; it ends with the connection."""

    def __init__(self, wire: Wire, pid: int) -> None:
        self.pid, self.lost = pid, False
        self._wire = wire
        self._code: int | None = None
        self._ended = threading.Event()
        self._lines: Queue[str | None] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for message in self._wire.messages():
            if "line" in message:
                self._lines.put(message["line"])
            elif "code" in message:
                self._code = message["code"]
        if self._code is None:
            self._code, self.lost = LOST, True
        self._wire.close()
        self._ended.set()
        self._lines.put(None)

    def lines(self) -> Iterator[str]:
        while (line := self._lines.get()) is not None:
            yield line

    def poll(self) -> int | None:
        return self._code if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        assert self._code is not None
        return self._code

    def send_signal(self, number: int) -> None:
        if not self._ended.is_set():
            self._wire.send(signal=int(number))

    def close_input(self) -> None:
        self._wire.send(close_input=True)

    def kill(self) -> None:
        if not self._ended.is_set():
            self._wire.send(kill=True)


class RemotePort:
    """A port that the agent keeps for as long as the connection lasts."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire, self.number = wire, number

    def close(self) -> None:
        self._wire.close()


class RemoteNode:
    """A node by its card: name, address, port and key of its agent, interface, GPUs."""

    def __init__(self, card: Mapping[str, Any], job: str) -> None:
        self.name, self.address = str(card["name"]), str(card["address"])
        self.interface: str | None = card["interface"]
        self.gpus: list[str] = list(card["gpus"])
        self.job: str | None = job
        self._agent, self._key = int(card["port"]), str(card["key"])

    def ask(self, do: str, **more: Any) -> Wire:
        """A connection with a request on it. Raises OutsideError."""
        try:
            wire = Wire.to(self.address, self._agent, CONNECT_S)
        except OSError as e:
            where = f"{self.address}:{self._agent}"
            raise OutsideError(f"{self.name}: cannot be reached at {where} ({e.strerror or e})") from e
        wire.send(key=self._key, do=do, **more)
        return wire

    def start(self, command: Command) -> RemoteProcess:
        wire = self.ask("run", **command.as_json())
        answer = wire.receive(ANSWER_S)
        if answer is None or "pid" not in answer:
            wire.close()
            raise OutsideError(f"{self.name}: {(answer or {}).get('error', 'its agent does not answer')}")
        return RemoteProcess(wire, answer["pid"])

    def port(self, purpose: str) -> RemotePort:
        wire = self.ask("port", purpose=purpose)
        answer = wire.receive(ANSWER_S)
        if answer is None:
            wire.close()
            raise OutsideError(f"{self.name}: its agent keeps no port")
        return RemotePort(wire, answer["port"])
