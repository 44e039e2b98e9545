"""A scripted server that speaks the OpenAI protocol, in a process of its own: deterministic replies, faults by flags.

A reply is a function of (prompt, seed, max_tokens); where the prompt holds a sum `a+b`, seven replies of ten are
right. Faults are drawn anew for every request, so that a repeated one may succeed. `GET /stats` counts what came in
and what went wrong; `POST /control` changes any flag while it runs; `--log` gets a JSON line {prompt, seed} for every
completion that is answered, before the answer leaves. It ends with the process that started it.

    python openai_server.py --port 8000 --model tiny --p-500 0.1 --p-hang 0.05 --log answered.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = [
    "so",
    "then",
    "wait",
    "let",
    "us",
    "check",
    "this",
    "again",
    "we",
    "see",
    "that",
    "it",
    "holds",
    "here",
    "now",
]


class Script:
    """The flags, as they stand, and what has happened."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.draw = random.Random(flags.fault_seed)
        self.counts: Counter[str] = Counter()
        self.began = time.monotonic()
        self.log = open(flags.log, "a", buffering=1) if flags.log else None  # noqa: SIM115
        self.running = asyncio.Semaphore(flags.max_running)
        self.in_flight = self.most_in_flight = 0

    def fault(self) -> str | None:
        """What goes wrong with this request, if anything."""
        f = self.flags
        if f.storm_every and (time.monotonic() - self.began) % f.storm_every > f.storm_every - f.storm_for:
            return "429"
        x = self.draw.random()
        for name in ("429", "500", "hang", "malformed", "truncated", "reset"):
            x -= getattr(f, f"p_{name}")
            if x < 0:
                return name
        return None


def number_of(*parts: Any) -> int:
    return int(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12], 16)


def reply_of(prompt: str, seed: int, max_tokens: int, tokens: int) -> tuple[str, str, int, str]:
    """(reasoning, answer, tokens, finish_reason)"""
    draw = number_of(prompt, seed)
    length = tokens // 2 + draw % (tokens + 1)
    thought = " ".join(WORDS[(draw >> (i % 40)) % len(WORDS)] for i in range(length))
    sums = re.findall(r"(\d+)\s*\+\s*(\d+)", prompt)
    value = sum(map(int, sums[-1])) if sums else draw % 1000
    answer = f"The answer is \\boxed{{{value if draw % 10 < 7 else value + 1}}}."
    if length + 8 > max_tokens:
        return " ".join(thought.split()[:max_tokens]), "", max_tokens, "length"
    return thought, answer, length + 8, "stop"


def problem(status: int, message: str, **headers: str) -> web.Response:
    names = {k.replace("_", "-"): v for k, v in headers.items()}
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=names)


def prompt_of(body: dict[str, Any]) -> str:
    if "prompt" in body:
        return body["prompt"] if isinstance(body["prompt"], str) else " ".join(map(str, body["prompt"]))
    return "\n".join(f"{m['role']}: {m['content']}" for m in body["messages"])


def refusal(flags: argparse.Namespace, request: web.Request, body: dict[str, Any]) -> web.Response | None:
    """What a server says to a request that it will never answer."""
    if flags.key and request.headers.get("Authorization") != f"Bearer {flags.key}":
        return problem(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
    if flags.status:
        return problem(flags.status, flags.message)
    if body and body.get("model") not in flags.model:
        return problem(404, f"The model `{body.get('model')}` does not exist.")
    unknown = [name for name in flags.unknown_field if name in body]
    if unknown:
        return problem(400, f"Unrecognized request argument supplied: {unknown[0]}")
    if body and flags.context:
        asked = len(prompt_of(body).split()) + body["max_tokens"]
        if asked > flags.context:
            return problem(
                400, f"This model's maximum context length is {flags.context} tokens. However, you requested {asked}."
            )
    if body and any(word in prompt_of(body) for word in flags.refuse_word):
        return problem(400, "the prompt was refused")
    return None


async def models(request: web.Request) -> web.StreamResponse:
    script: Script = request.app["script"]
    script.counts["models"] += 1
    if script.flags.no_list:
        return problem(404, "Not Found")
    wrong = refusal(script.flags, request, {})
    if wrong is not None and wrong.status != 400:
        return wrong
    entries = [{"id": m, "object": "model", "max_model_len": script.flags.context} for m in script.flags.model]
    return web.json_response({"object": "list", "data": entries})


async def generate(request: web.Request) -> web.StreamResponse:
    script: Script = request.app["script"]
    body = await request.json()
    script.counts["requests"] += 1
    script.in_flight += 1
    script.most_in_flight = max(script.most_in_flight, script.in_flight)
    try:
        return await answer(script, request, body)
    except asyncio.CancelledError:
        script.counts["cancelled"] += 1
        raise
    finally:
        script.in_flight -= 1


async def answer(script: Script, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    flags = script.flags
    wrong = refusal(flags, request, body)
    if wrong is not None:
        script.counts[f"refused_{wrong.status}"] += 1
        return wrong
    fault = script.fault()
    if fault:
        script.counts[fault] += 1
    if fault == "429":
        wait = flags.retry_after
        if wait is not None and flags.retry_after_date:
            wait = email.utils.formatdate(time.time() + wait, usegmt=True)
        return problem(429, "slow down", **({} if wait is None else {"Retry_After": str(wait)}))
    if fault == "500":
        return problem(500, "internal error")
    if fault == "hang":
        await asyncio.sleep(3600)
    prompt, seed, max_tokens = prompt_of(body), body.get("seed", 0), body["max_tokens"]
    reasoning, said, tokens, reason = reply_of(prompt, seed, max_tokens, flags.tokens)
    async with script.running:
        await asyncio.sleep(flags.latency + (tokens / flags.token_rate if flags.token_rate else 0))
    if fault == "reset":
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    payload = json.dumps(reply_json(flags, request.path, body, (reasoning, said, tokens, reason)))
    if fault == "malformed":
        return web.Response(text=payload[: len(payload) // 2], content_type="application/json")
    if fault == "truncated":
        response = web.StreamResponse(
            headers={"Content-Length": str(len(payload)), "Content-Type": "application/json"}
        )
        await response.prepare(request)
        await response.write(payload[: len(payload) // 2].encode())
        assert request.transport is not None
        request.transport.abort()
        return response
    script.counts["answered"] += 1
    if script.log:
        script.log.write(json.dumps({"prompt": prompt, "seed": seed}) + "\n")
    if flags.die_after and script.counts["answered"] >= flags.die_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return web.Response(text=payload, content_type="application/json")


def reply_json(
    flags: argparse.Namespace, path: str, body: dict[str, Any], reply: tuple[str, str, int, str]
) -> dict[str, Any]:
    reasoning, said, tokens, reason = reply
    closed = f"\n</think>\n\n{said}" if reason == "stop" else ""
    prompt = prompt_of(body)
    prefilled = prompt.endswith("<think>\n")
    whole = f"{'' if prefilled else '<think>' + chr(10)}{reasoning}{closed}"
    choice: dict[str, Any] = {"index": 0, "finish_reason": flags.finish or reason}
    if flags.say is not None:
        said, whole = flags.say, flags.say
    if path.endswith("chat/completions"):
        apart = {"content": said or None, flags.reasoning: reasoning} if flags.reasoning else {"content": whole}
        choice["message"] = {"role": "assistant", **apart}
    else:
        choice["text"] = whole
    found = {"id": "cmpl-1", "object": "completion", "model": body["model"], "choices": [choice]}
    if not flags.no_usage:
        read = len(prompt.split())
        found["usage"] = {"prompt_tokens": read, "completion_tokens": tokens, "total_tokens": read + tokens}
    return found


async def health(request: web.Request) -> web.Response:
    return web.Response()


async def stats(request: web.Request) -> web.Response:
    script: Script = request.app["script"]
    return web.json_response({**script.counts, "in_flight": script.in_flight, "most": script.most_in_flight})


async def control(request: web.Request) -> web.Response:
    script: Script = request.app["script"]
    for name, value in (await request.json()).items():
        assert hasattr(script.flags, name), name
        setattr(script.flags, name, value)
    return web.Response()


def parse(args: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--port-file", help="where the port is written once it listens")
    p.add_argument("--model", action="append", help="a model that is served (default: tiny)")
    p.add_argument("--key", help="the only API key that is taken")
    p.add_argument("--context", type=int, help="tokens (words) of prompt and reply together; also listed")
    p.add_argument("--tokens", type=int, default=24, help="mean length of a reply")
    p.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    p.add_argument("--token-rate", type=float, help="tokens a second of one request")
    p.add_argument("--max-running", type=int, default=10_000, help="requests answered side by side; others wait")
    for name in ("429", "500", "hang", "malformed", "truncated", "reset"):
        p.add_argument(f"--p-{name}", type=float, default=0.0, help="share of requests")
    p.add_argument("--storm-every", type=float, help="seconds from one storm of 429 to the next")
    p.add_argument("--storm-for", type=float, default=1.0, help="seconds that a storm lasts")
    p.add_argument("--retry-after", type=float, help="seconds, said with every 429")
    p.add_argument("--retry-after-date", action="store_true", help="said as an HTTP date")
    p.add_argument("--status", type=int, help="answer every request with this status")
    p.add_argument("--message", default="scripted")
    p.add_argument("--unknown-field", action="append", default=[], help="a field that is refused with 400")
    p.add_argument("--refuse-word", action="append", default=[], help="prompts with this word are refused with 400")
    p.add_argument("--reasoning", choices=["reasoning", "reasoning_content"], help="hand the reasoning apart")
    p.add_argument("--no-usage", action="store_true")
    p.add_argument("--no-list", action="store_true", help="no /v1/models")
    p.add_argument("--say", help="answer every request with this text")
    p.add_argument("--finish", help="this finish_reason for every reply")
    p.add_argument("--die-after", type=int, help="end with SIGKILL instead of sending the reply of this number")
    p.add_argument("--fault-seed", type=int, default=0)
    p.add_argument("--log", help="a JSON line for every completion answered")
    flags = p.parse_args(args)
    flags.model = flags.model or ["tiny"]
    return flags


async def serve(flags: argparse.Namespace) -> None:
    app = web.Application(client_max_size=64 * 1024**2)
    app["script"] = Script(flags)
    app.add_routes([web.get("/v1/models", models), web.get("/health", health), web.get("/stats", stats)])
    app.add_routes([web.post("/v1/chat/completions", generate), web.post("/v1/completions", generate)])
    app.add_routes([web.post("/control", control)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", flags.port), backlog=4096)
    await web.SockSite(runner, listener, backlog=4096).start()
    if flags.port_file:
        aside = Path(flags.port_file + ".tmp")
        aside.write_text(str(listener.getsockname()[1]))
        aside.rename(flags.port_file)
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)


class ScriptedServer:
    """The server as a child process; `url` is its base URL. Use it as a context manager."""

    def __init__(self, folder: Path, *flags: str, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port_file = folder / f"port-{random.randrange(10**9)}"
        self.log = folder / "answered.jsonl"
        command = [sys.executable, __file__, "--port", str(port), "--port-file", str(self.port_file)]
        self.process = subprocess.Popen([*command, "--log", str(self.log), *flags])
        deadline = time.monotonic() + 60
        while not self.port_file.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "the scripted server did not start"
            time.sleep(0.01)
        self.port = int(self.port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> Counter[str]:
        """Requests, answers and faults so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as response:
            return Counter(json.load(response))

    def control(self, **flags: Any) -> None:
        """Change flags while it runs, by their names with underscores."""
        data = json.dumps(flags).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/control", data=data, timeout=30).close()

    def calm(self) -> None:
        """Every flag back to its default."""
        self.control(**{k: v for k, v in vars(parse([])).items() if k not in ("port", "port_file", "log")})

    def answered(self) -> list[tuple[str, int]]:
        """(prompt, seed) of every completion answered, over all servers that wrote to this folder."""
        if not self.log.exists():
            return []
        return [(row["prompt"], row["seed"]) for row in map(json.loads, self.log.read_text().splitlines())]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


if __name__ == "__main__":
    asyncio.run(serve(parse(sys.argv[1:])))
