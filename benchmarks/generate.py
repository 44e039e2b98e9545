"""Generation speed: tokens a second through the stage `generate` over the engine's own.

The stage is `openr1 run` with everything it does: requests, retries, early commits flushed to disk, the sealed and
hashed store. The engine's own is, for a server, the same requests sent by a bare client that keeps nothing; for
`transformers`, the engine's `generate` with its completions thrown away. Both count from the first request on, the
stage to its very end, in processes of their own, in turns (bare, stage, stage, bare, …); the ratio is of the medians.
`start` is what comes before the first request of the stage: imports, the prompts, the probe or the model.

By default the server is the scripted one of the tests: `--concurrency` requests side by side, each at `--token-rate`
tokens a second, as a real server hands them out. `--vllm URL` takes a real server instead. `ceiling` is the scripted
server without any waiting: requests a second that a client, the stage and the server's own process reach on this
machine. The goal is a ratio of 0.95.

    python benchmarks/generate.py [--requests 1024] [--pairs 3] [--vllm http://127.0.0.1:8000/v1] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GOAL = 0.95
KINDS = ("server", "ceiling", "transformers")
SAMPLES = 4
SERVER = Path(__file__).resolve().parents[1] / "tests" / "engines" / "openai_server.py"
RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.generate: generate
{model}  - _self_
stages:
  prompts: {{task: "${{data}}", splits: {{rl: {{size: {prompts}}}}}}}
  generate: {{inputs: {{data: prompts/rl}}, k: {k}, sampling: {{max_new_tokens: {tokens}}}}}
"""
MODEL = "  - /model@stages.generate.model: qwen3_tiny\n"


def write_recipe(folder: Path, prompts: int, tokens: int, with_model: bool) -> None:
    path = folder / "recipes" / "recipe" / "bench.yaml"
    path.parent.mkdir(parents=True)
    model = MODEL if with_model else ""
    path.write_text(RECIPE.format(model=model, prompts=prompts, k=SAMPLES, tokens=tokens))


def engine_words(args: argparse.Namespace, url: str | None) -> list[str]:
    if url is None:
        return ["engine=transformers", f"engine.batch_size={args.batch_size}"]
    return ["engine=openai", f"engine.base_url=[{url}]", f"engine.concurrency={args.concurrency}"]


def openr1(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "openr1.cli", "run", "recipe=bench", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"openr1 failed: {done.stderr[-2000:]}")


# ------------------------------------------------------------------------------------------------------- contenders
def through_the_stage(folder: Path, run: str, words: list[str]) -> dict[str, float]:
    """Tokens, seconds from the first request to the stage's end, and seconds before."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    openr1(folder, f"run={run}", *words, "stages=[prompts]")
    openr1(folder, f"run={run}", *words)
    stage = folder / "runs" / run / "generate"
    manifest = json.loads((stage / "manifest.json").read_text())
    parts = sorted(str(p) for p in (stage / "store").glob("**/part-*.parquet"))
    rows = pq.read_table(parts, columns=["finished_at", "seconds"])
    first = pc.min(rows["finished_at"])
    together = rows.filter(pc.equal(rows["finished_at"], first))  # a batch shares its time out among its rows
    began = first.as_py() - pc.sum(together["seconds"]).as_py()
    start = began - manifest["started_at"]
    return {"tokens": manifest["tokens"]["generated"], "seconds": manifest["seconds"] - start, "start": start}


def bare(prompts: Path, tokens: int, url: str | None, args: argparse.Namespace) -> dict[str, float]:
    """Tokens and seconds without the stage, in this process."""
    from openr1.engines import make_requests
    from openr1.stages.base import read_prompts

    requests = make_requests(read_prompts(prompts), SAMPLES, 0)
    if url is not None:
        made, seconds = asyncio.run(bare_client(requests, tokens, url, args.concurrency))
    else:
        made, seconds = bare_transformers(requests, tokens, args.batch_size)
    return {"tokens": made, "seconds": seconds}


async def bare_client(requests: list[Any], tokens: int, url: str, concurrency: int) -> tuple[int, float]:
    """The shortest client that keeps `concurrency` requests in flight; it counts tokens and forgets the rest."""
    import aiohttp

    feed, made = iter(requests), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with session.get(f"{url}/models") as response:
            model = (await response.json())["data"][0]["id"]

        async def work() -> None:
            nonlocal made
            for r in feed:
                body = {"model": model, "messages": r.messages, "max_tokens": tokens, "temperature": 1.0}
                body |= {"top_p": 1.0, "seed": r.seed}
                async with session.post(f"{url}/chat/completions", json=body, timeout=None) as response:
                    made += (await response.json())["usage"]["completion_tokens"]

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return made, time.perf_counter() - began


def bare_transformers(requests: list[Any], tokens: int, batch_size: int) -> tuple[int, float]:
    from openr1.engines import open_engine
    from openr1.engines.settings import SamplingSettings, TransformersSettings

    folder = Path(os.environ["OPENR1_BENCH_MODEL"])
    engine = open_engine(TransformersSettings(name="transformers", batch_size=batch_size), folder)
    sampling = SamplingSettings(temperature=1.0, max_new_tokens=tokens)
    began = time.perf_counter()
    made = sum(c.completion_tokens for commit in engine.generate(requests, sampling) for c in commit)
    return made, time.perf_counter() - began


def make_model(folder: Path) -> Path:
    """The model that the stage starts from, random weights."""
    import yaml

    from openr1.models.scratch import init_model
    from openr1.models.settings import ModelSettings

    recipes = Path(__file__).resolve().parents[1] / "recipes" / "model" / "qwen3_tiny.yaml"
    return init_model(ModelSettings(**yaml.safe_load(recipes.read_text())), 0, folder)


# ---------------------------------------------------------------------------------------------------------- servers
class Server:
    """The scripted server as a child process."""

    def __init__(self, folder: Path, *flags: str) -> None:
        port = folder / f"port-{time.monotonic_ns()}"
        self.process = subprocess.Popen([sys.executable, str(SERVER), "--port-file", str(port), *flags])
        while not port.exists():
            if self.process.poll() is not None:
                sys.exit("the scripted server did not start")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port.read_text()}/v1"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


# ---------------------------------------------------------------------------------------------------------- pairing
def paired(name: str, url: str | None, requests: int, tokens: int, args: argparse.Namespace) -> dict[str, Any]:
    """Both contenders in turns over the same requests."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_recipe(folder, max(1, requests // SAMPLES), tokens, url is None)
        words = engine_words(args, url)
        openr1(folder, "run=first", *words, "stages=[prompts]")
        if url is None:
            os.environ["OPENR1_BENCH_MODEL"] = str(make_model(folder / "model"))
        found: dict[str, list[dict[str, float]]] = {"bare": [], "stage": []}
        for i in range(args.pairs):
            for who in ("bare", "stage") if i % 2 == 0 else ("stage", "bare"):
                if who == "stage":
                    one = through_the_stage(folder, f"s{i}", words)
                else:
                    one = in_a_process(folder / "runs/first/prompts/rl", tokens, url, args)
                found[who].append(one)
                print(f"  {name} {who}: {one['tokens']} tokens in {one['seconds']:.1f} s", file=sys.stderr)
    made = {one["tokens"] for both in found.values() for one in both}
    assert len(made) == 1 or args.vllm, f"not the same work: {found}"
    rates = {who: statistics.median(one["tokens"] / one["seconds"] for one in found[who]) for who in found}
    shown = {"tokens": found["stage"][0]["tokens"], "requests": requests // SAMPLES * SAMPLES, "each": found, **rates}
    start = statistics.median(one["start"] for one in found["stage"])
    return {**shown, "ratio": rates["stage"] / rates["bare"], "start": start}


def in_a_process(prompts: Path, tokens: int, url: str | None, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--bare", str(prompts), "--max-tokens", str(tokens)]
    command += ["--concurrency", str(args.concurrency), "--batch-size", str(args.batch_size)]
    out = subprocess.check_output([*command, *(["--url", url] if url else [])], text=True)
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if args.vllm:
        found["vllm"] = paired("vllm", args.vllm, args.requests, args.max_tokens, args)
        return found
    wanted = args.only or KINDS
    with tempfile.TemporaryDirectory() as folder:
        running = ("--max-running", str(args.concurrency))
        reply = ("--tokens", str(args.tokens))
        flags = {"server": ("--token-rate", str(args.token_rate), *reply, *running), "ceiling": reply}
        for name in (n for n in KINDS if n in wanted and n in flags):
            with Server(Path(folder), *flags[name]) as server:
                found[name] = paired(name, server.url, args.requests, 4 * args.tokens, args)
    if "transformers" in wanted:
        found["transformers"] = paired("transformers", None, args.transformers_requests, args.max_tokens, args)
    return found


def report(found: dict[str, Any]) -> None:
    print(f"{'tokens a second':16}{'requests':>10}{'tokens':>10}{'engine':>12}{'stage':>12}{'ratio':>8}{'start':>8}")
    for name, r in found.items():
        row = f"{name:16}{r['requests']:>10}{r['tokens']:>10}{r['bare']:>12.0f}{r['stage']:>12.0f}{r['ratio']:>8.3f}"
        row += f"{r['start']:>6.1f} s"
        verdict = "" if name == "ceiling" else f"  goal {GOAL}: {'met' if r['ratio'] >= GOAL else 'not met'}"
        print(row + verdict)
    if "ceiling" in found:
        r = found["ceiling"]
        each = r["tokens"] / r["requests"]
        print(f"ceiling in requests a second: bare client {r['bare'] / each:.0f}, stage {r['stage'] / each:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2048, help="requests to the server, 4 a prompt")
    parser.add_argument("--transformers-requests", type=int, default=4096)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=256, help="of transformers")
    parser.add_argument("--tokens", type=int, default=200, help="mean length of the scripted server's replies")
    parser.add_argument("--token-rate", type=float, default=60.0, help="tokens a second of one scripted request")
    parser.add_argument("--max-tokens", type=int, default=64, help="of transformers and of a real server")
    parser.add_argument("--only", action="append", choices=KINDS, help="measure only this")
    parser.add_argument("--vllm", metavar="URL", help="measure against this server, its base URL with /v1")
    parser.add_argument("--json", help="write the numbers to this file")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(json.dumps(bare(Path(args.bare), args.max_tokens, args.url, args)))
        return
    found = measure(args)
    report(found)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
