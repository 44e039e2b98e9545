"""A small Piston (API v2) for tests: runs Python for real, not isolated, and plays trouble where told to.

A program whose first line is `# play: [...]` gets those replies in turn: an HTTP status, or an object as the body.

    python piston_server.py        # prints its port
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUN_TIMEOUT_LIMIT = 60_000
RUNTIMES = [
    {"language": "python", "version": "3.12.0", "aliases": ["py", "python3"]},
    {"language": "c++", "version": "10.2.0", "aliases": ["cpp", "g++"]},
]
played: dict[str, int] = {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200, RUNTIMES) if self.path.endswith("/runtimes") else self._answer(404, {"message": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["run_timeout"] > RUN_TIMEOUT_LIMIT:
            message = f"run_timeout cannot exceed the configured limit of {RUN_TIMEOUT_LIMIT}"
            return self._answer(400, {"message": message})
        text = body["files"][0]["content"]
        if text.startswith("# play: "):
            script = json.loads(text.splitlines()[0].removeprefix("# play: "))
            turn = played[text] = played.get(text, -1) + 1
            reply = script[min(turn, len(script) - 1)]
            return self._answer(reply, {"message": "as told"}) if isinstance(reply, int) else self._answer(200, reply)
        self._answer(200, {"language": "python", "version": "3.12.0", "run": run(text, body)})

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def run(text: str, body: dict[str, Any]) -> dict[str, Any]:
    """One run, in Piston's words."""
    began = time.monotonic()
    command = ["prlimit", f"--as={1 << 29}", "--cpu=1", sys.executable, "-I", "-c", text, *body["args"]]
    done = subprocess.run(command, input=body["stdin"], capture_output=True, text=True, env={}, timeout=60)
    killed = done.returncode < 0
    return {
        "stdout": done.stdout, "stderr": done.stderr, "output": done.stdout + done.stderr,
        "code": None if killed else done.returncode, "signal": "SIGKILL" if killed else None,
        "status": "TO" if killed else "RE" if done.returncode else None,
        "cpu_time": 1000 if killed else 20, "wall_time": round(1000 * (time.monotonic() - began)), "memory": 9 << 20,
    }  # fmt: skip


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
