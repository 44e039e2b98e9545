"""JSON objects over a connection, one a line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

IDLE_S, EVERY_S, TIMES = 10, 5, 3  # a node that lost its power says nothing: the kernel asks


class Wire:
    """One end of a connection; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._in = connection.makefile("r", encoding="utf-8", newline="\n")
        self._sending = threading.Lock()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", IDLE_S), ("TCP_KEEPINTVL", EVERY_S), ("TCP_KEEPCNT", TIMES)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    @classmethod
    def to(cls, address: str, port: int, timeout: float) -> Wire:
        """A new connection. Raises OSError."""
        connection = socket.create_connection((address, port), timeout)
        connection.settimeout(None)
        return cls(connection)

    def send(self, **message: Any) -> bool:
        """False where the other end is gone."""
        data = (json.dumps(message) + "\n").encode()
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError:
            return False
        return True

    def receive(self, timeout: float | None = None, most: int = -1) -> dict[str, Any] | None:
        """The next message; None where the other end is gone, says nothing in time, or more than `most` characters."""
        self._connection.settimeout(timeout)
        try:
            line = self._in.readline(most)
            return json.loads(line) if line.endswith("\n") else None
        except (OSError, ValueError):
            return None
        finally:
            with suppress(OSError):
                self._connection.settimeout(None)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Until the other end is gone."""
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
