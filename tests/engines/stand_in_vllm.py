"""A stand-in for the program `vllm`: `serve` with an API process, an engine core of its own, and a key.

Replies are token ids that are a function of prompt and seed. It writes `<pid>.json` {role, port, gpus, arguments} for
each of its processes into $STAND_IN_FOLDER and counts completions in `served.txt`. $STAND_IN_FAULT:
`start` ends with an error in the log before it listens; `mute` never listens; `crash` ends at the fifth completion.
Like vLLM, the API ends when its engine core does, and a killed API leaves the core behind.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["STAND_IN_FOLDER"])
SEGMENT = "stand_in_"
KEY = os.environ["VLLM_API_KEY"]  # empty: whoever asks is answered
FAULT = os.environ.get("STAND_IN_FAULT", "")


def note(role: str, **more: Any) -> None:
    path = FOLDER / f"{os.getpid()}.json"
    path.with_suffix(".tmp").write_text(json.dumps({"role": role, "pid": os.getpid(), **more}))
    path.with_suffix(".tmp").rename(path)


def core() -> None:
    if os.environ.get("STAND_IN_SETSID"):
        os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(f"/dev/shm/psm_{SEGMENT}{os.getpid()}", "w+b") as file:  # as multiprocessing names them
        file.truncate(4096)
        held = mmap.mmap(file.fileno(), 4096)
    note("core")
    while held:
        time.sleep(60)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served = 0
    lock = threading.Lock()

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/version":
            return self.answer(200, {"version": "0.0.stand-in"})
        if KEY and self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.answer(401, {"error": "Unauthorized"})
        self.answer(200, {"data": [{"id": flag("--served-model-name")}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if KEY and self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.answer(401, {"error": "Unauthorized"})
        with Handler.lock:
            Handler.served += 1
            with (FOLDER / "served.txt").open("a") as file:
                file.write("x")
        if FAULT == "crash" and Handler.served > 4:
            print("ValueError: a seed is no good", file=sys.stderr, flush=True)
            os._exit(1)
        time.sleep(float(os.environ.get("STAND_IN_DELAY", "0.01")))
        seed, prompt = body.get("seed", 0), body["prompt"]
        made = [3 + (seed + sum(prompt) * i) % 90 for i in range(1 + seed % body["max_tokens"])]
        ends = seed % 2 == 0 and len(made) < body["max_tokens"]
        ids = made + body["stop_token_ids"][:1] if ends else made
        choice = {"index": 0, "text": "?", "finish_reason": "stop" if ends else "length", "token_ids": ids}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        self.answer(200, {"choices": [choice], "usage": usage})


def flag(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    if FAULT == "start":
        print("(EngineCore pid=1) ERROR [core.py:1] ValueError: no room for a single block", file=sys.stderr)
        sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")
    child = subprocess.Popen([sys.executable, __file__, "core"])
    note("api", port=flag("--port"), gpus=os.environ.get("CUDA_VISIBLE_DEVICES"), arguments=sys.argv[1:])
    while not (FOLDER / f"{child.pid}.json").exists():  # an API listens when its core is ready
        time.sleep(0.01)
    if FAULT == "mute":
        time.sleep(600)
    server = Server((flag("--host"), int(flag("--port"))), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    child.wait()
    print("EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.", flush=True)
    os._exit(1)


if __name__ == "__main__":
    core() if sys.argv[1] == "core" else main()
