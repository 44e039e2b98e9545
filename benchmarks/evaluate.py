"""What an evaluation costs beside its model: core-seconds of openr1, inspect-ai and lm-eval on one scripted server.

All three ask the same questions (sums, as GSM8K's rows) the same number of times, 64 requests in flight, and grade the
replies. Counted are the core-seconds (user and system) of the harness with everything it starts, from its start to its
end, and those of the server meanwhile; `ratio` is the first over the second. openr1 also keeps every reply in a store
that survives a kill, and writes a report; the others write their own logs.

The peers are installed into a temporary environment (`--peers DIR` keeps and takes up one), never into openr1's.

    python benchmarks/evaluate.py [--sizes 160 1280] [--peers DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

PEERS = ("inspect-ai==0.3.285", "openai", "lm-eval[api]==0.4.13")
SERVER = Path(__file__).resolve().parents[1] / "tests" / "engines"
CONCURRENCY = 64
SAMPLES = {160: 4, 1280: 16}
INSPECT_TASK = """\
from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate

@task
def sums():
    rows = json_dataset({data!r}, lambda r: Sample(input=r["question"], target=r["answer"].removeprefix("#### ")))
    return Task(dataset=rows, solver=generate(), scorer=pattern(r"boxed\{{(\d+)\}}"))
"""
LM_EVAL_TASK = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
repeats: {k}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer.split('#### ')[1]}}}}"
generation_kwargs: {{until: ["\\n\\n\\n\\n"], do_sample: true, temperature: 0.6, max_gen_toks: 256}}
filter_list:
  - name: boxed
    filter: [{{function: regex, regex_pattern: "boxed\\\\{{(\\\\d+)"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@dataclass(frozen=True)
class Cost:
    """Core-seconds of a harness and of the server, and how many replies the server gave."""

    harness: str
    requests: int
    core_seconds: float
    server_core_seconds: float
    answered: int
    failed: str = ""

    @property
    def ratio(self) -> float:
        return self.core_seconds / self.server_core_seconds if self.server_core_seconds else float("nan")


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(name: str, requests: int, server: object, command: list[str], folder: Path, env: dict[str, str]) -> Cost:
    """Run one harness to its end."""
    process = psutil.Process(server.process.pid)  # type: ignore[attr-defined]
    before, own = process.cpu_times(), children_seconds()
    answered = server.stats()["answered"]  # type: ignore[attr-defined]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True)
    after = process.cpu_times()
    used = sum(after[:2]) - sum(before[:2])
    lines = (done.stderr or done.stdout).strip().splitlines() or [""]
    why = "" if done.returncode == 0 else f"exit {done.returncode}: {lines[-1][:160]}"
    got = server.stats()["answered"] - answered  # type: ignore[attr-defined]
    if not why and got < requests:  # a harness that gives up may end with 0
        why = f"asked for {got} of {requests} replies and ended: {(done.stdout or done.stderr).strip()[-160:]!r}"
    return Cost(name, requests, round(children_seconds() - own, 2), round(used, 2), got, why)


def harnesses(python: Path, url: str, data: Path, k: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Command and environment of each."""
    words = ["model=tiny", "benchmark=gsm8k", f"k={k}", "engine=openai", f"engine.base_url=[{url}]", "track=off"]
    words += ["max_new_tokens=256", "second_grader=false", f"engine.concurrency={CONCURRENCY}", f"run=bench{k}"]
    bin_ = python.parent
    inspect = [str(bin_ / "inspect"), "eval", "task.py", "--model", "openai-api/local/tiny", "--epochs", str(k)]
    inspect += [
        "--max-connections",
        str(CONCURRENCY),
        "--temperature",
        "0.6",
        "--max-tokens",
        "256",
        "--display",
        "none",
    ]
    arguments = f"model=tiny,base_url={url}/chat/completions,num_concurrent={CONCURRENCY},tokenized_requests=False"
    lm = [str(bin_ / "lm_eval"), "--model", "local-chat-completions", "--model_args", arguments, "--tasks", "sums"]
    lm += ["--include_path", ".", "--apply_chat_template", "--output_path", f"lm{k}", "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    return {
        "openr1": ([sys.executable, "-m", "openr1.cli", "evaluate", *words], {"OPENR1_DATA_DIR": str(data.parent)}),
        "inspect-ai": (inspect, {"LOCAL_BASE_URL": url, "LOCAL_API_KEY": "none"}),
        "lm-eval": (lm, offline),
    }


def install(folder: Path) -> Path:
    """The Python of an environment with the peers; uv resolves their 128 packages in seconds, pip in half an hour."""
    python = folder / "bin" / "python"
    if not (folder / "bin" / "lm_eval").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "uv"], check=True)
        subprocess.run([str(python), "-m", "uv", "pip", "install", "--quiet", "-p", str(python), *PEERS], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SAMPLES))
    parser.add_argument("--peers", help="an environment of the peers, made where it is not there")
    parser.add_argument("--only", nargs="+", default=["openr1", "inspect-ai", "lm-eval"])
    parser.add_argument("--json", help="where the figures go")
    args = parser.parse_args()
    sys.path.insert(0, str(SERVER))
    from openai_server import ScriptedServer

    costs: list[Cost] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        peers_wanted = any(name != "openr1" for name in args.only)
        python = install(Path(args.peers or folder / "peers").resolve()) if peers_wanted else Path(sys.executable)
        for size in args.sizes:
            k = SAMPLES.get(size, 4)
            work = folder / str(size)
            data = work / "data" / "gsm8k.jsonl"
            data.parent.mkdir(parents=True)
            rows = [
                {"question": f"What is {i}+{3 * i}?", "answer": f"#### {4 * i}"} for i in range(100, 100 + size // k)
            ]
            data.write_text("".join(json.dumps(r) + "\n" for r in rows))
            (work / "task.py").write_text(INSPECT_TASK.format(data=str(data)))
            (work / "sums.yaml").write_text(LM_EVAL_TASK.format(data=data, k=k))
            with ScriptedServer(work / "server") as server:
                for name, (command, env) in harnesses(python, server.url, data, k).items():
                    if name in args.only:
                        costs.append(measured(name, size, server, command, work, env))
                        say(costs[-1], sys.stderr.write)
    table(costs, sys.stdout.write)
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(c) | {"ratio": c.ratio} for c in costs], indent=1))


def say(c: Cost, write: Callable[[str], object]) -> None:
    write(
        f"{c.harness} {c.requests}: {c.core_seconds} core-s, server {c.server_core_seconds}, {c.answered} {c.failed}\n"
    )


def table(costs: list[Cost], write: Callable[[str], object]) -> None:
    write(
        "| harness | requests | answered | core-seconds | server's | ratio |\n| --- | --- | --- | --- | --- | --- |\n"
    )
    for c in costs:
        figures = f"{c.core_seconds:.1f} | {c.server_core_seconds:.2f} | {c.ratio:.1f}"
        write(f"| {c.harness} | {c.requests} | {c.answered} | {c.failed or figures} |\n")


if __name__ == "__main__":
    main()
