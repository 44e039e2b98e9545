"""What the test servers share: an HTTP handler that reads bodies, answers JSON and goes wrong where it is told to.

Kinds of faults: a status (500, 503, 429, 412, …); `reset` closes the connection with RST before anything is done;
`hang` says nothing for `seconds`; `truncate` announces the whole body and sends half of it; `slow` waits `seconds`,
then answers; `lost` does what was asked and then closes the connection, so that the caller cannot know; `spoil`
answers with other bytes than it should.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import threading
import time
import traceback
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Failure(Exception):
    """An answer that is no success: status, message, and the Hub's code for it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class Faults:
    """Faults that wait for their call, and every call that was answered."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.lock = threading.Lock()

    def take(self, method: str, path: str) -> dict[str, Any] | None:
        with self.lock:
            for fault in self.waiting:
                if re.fullmatch(fault["method"], method) and re.search(fault["path"], path):
                    if fault.get("skip", 0) > 0:
                        fault["skip"] -= 1
                        continue
                    if fault["times"] > 0:
                        fault["times"] -= 1
                        return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """Reads the request, lets it fail as told, and hands the rest to `route`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: Faults
    fault: dict[str, Any] | None = None

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `calls` instead."""

    def route(self, body: bytes) -> None:
        raise NotImplementedError

    def handle_any(self) -> None:
        body = self._body()
        url = urlsplit(self.path)
        self.query = {k: v[-1] for k, v in parse_qs(url.query).items()}
        self.segments = [unquote(s) for s in url.path.strip("/").split("/")]
        if self.segments[0] == "_admin":
            return self.send(200, self._admin(self.segments[1], json.loads(body or b"null")))
        self.fault = self.faults.take(self.command, self.path + self.subject(body))
        try:
            if self._stopped():
                return None
            self.route(body)
        except Failure as e:
            self.refuse(e)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as e:
            traceback.print_exc()
            self.send(500, {"error": repr(e)})
        return None

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = handle_any

    def subject(self, body: bytes) -> str:
        """What of a body a fault may be matched against, beside the path."""
        return ""

    def refuse(self, failure: Failure) -> None:
        headers = {"X-Error-Message": failure.message} | ({"X-Error-Code": failure.code} if failure.code else {})
        self.send(failure.status, {"error": failure.message}, headers=headers)

    def send(
        self, status: int, data: Any = b"", kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        fault = self.fault["kind"] if self.fault else None
        self.fault = None
        self.faults.calls.append(f"{self.command} {self.path} {status}")
        if fault == "lost":
            return self._reset()
        if fault == "spoil":
            data = data[::-1]
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if fault == "truncate":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            return self._reset(orderly=True)
        self.wfile.write(data)
        return None

    def _stopped(self) -> bool:
        """Carry out the fault of this call; True when the call ends here."""
        fault = self.fault
        kind = fault["kind"] if fault else None
        if fault is None or kind in ("lost", "truncate", "spoil"):
            return False
        if kind == "slow":
            time.sleep(fault["seconds"])
            return False
        if kind == "hang":
            time.sleep(fault.get("seconds", 3600))
            self._reset()
        elif kind == "reset":
            self._reset()
        else:
            retry = {"Retry-After": "1"} if kind == 429 else {}
            self.fault = None
            self.send(int(kind), {"error": "injected"}, headers={"X-Error-Message": "injected", **retry})
        return True

    def _reset(self, orderly: bool = False) -> None:
        if not orderly:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close() if not orderly else self.connection.shutdown(socket.SHUT_RDWR)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _admin(self, what: str, value: Any) -> Any:
        if what == "fault":
            self.faults.waiting.append(value)
            return {}
        if what == "heal":
            self.faults.waiting.clear()
            return {}
        if what == "waiting":
            return [f for f in self.faults.waiting if f["times"] > 0]
        if what == "calls":
            return self.faults.calls
        return self.admin(what, value)

    def admin(self, what: str, value: Any) -> Any:
        raise Failure(404, f"no admin call {what}")

    @property
    def base(self) -> str:
        return f"http://{self.headers['Host']}"


class Threaded(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed is what these servers are for."""


def serve(handler: type[Handler]) -> None:
    """Serve on a free port of loopback for ever; the address goes to standard output."""
    handler.faults = Faults()
    server = Threaded(("127.0.0.1", 0), handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
