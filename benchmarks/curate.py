"""Curation at scale: time and peak memory of the whole chain and of deduplication alone, and how they grow.

Rows are made up on the fly: questions of about 200 characters, 2% of them exact and 4% near copies of others, each
with four completions of about 1,000 characters, of which half are correct. Every measurement runs in a process of its
own on one core; peak memory is that process's resident set. `--json FILE` keeps the numbers.

    python benchmarks/curate.py [--rows 100000 1000000] [--seed 0] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SAMPLES = 4
PART = 20_000
CHAIN = [
    {"step": "exact_dedup"},
    {"step": "near_dedup"},
    {"step": "graded"},
    {"step": "correct"},
    {"step": "format", "form": "native"},
    {"step": "length", "min_tokens": 10, "max_tokens": 4_000},
    {"step": "language", "language": "en", "by": "script"},
    {"step": "repetition"},
    {"step": "same_text"},
    {"step": "select", "per_prompt": 2, "by": "diverse"},
    {"step": "pass_rate", "low": 0.1, "high": 0.9},
    {"step": "mix", "weights": {"algebra": 2, "geometry": 1}},
    {"step": "split", "parts": {"test": 0.02}},
]
DEDUP = CHAIN[:2]
_WORDS = """the a of and find all real numbers such that let be positive integer triangle circle sum product value with
angle equal to side length function for which prove determine every point line through number divided by remainder when
sequence term root equation polynomial coefficient square cube prime factor area radius"""
WORDS = _WORDS.split()


# ------------------------------------------------------------------------------------------------------------- rows
def questions(n: int, draw: random.Random) -> Iterator[str]:
    """`n` questions, some of them copies of earlier ones, word for word or nearly."""
    earlier: list[str] = []
    for _ in range(n):
        kind = draw.random()
        if earlier and kind < 0.02:
            yield draw.choice(earlier)
            continue
        if earlier and kind < 0.06:
            words = draw.choice(earlier).split()
            words[draw.randrange(len(words))] = str(draw.randrange(100))
            yield " ".join(words)
            continue
        words = draw.choices(WORDS, k=30)
        for _ in range(6):
            words[draw.randrange(30)] = str(draw.randrange(10_000))
        question = " ".join(words)
        if len(earlier) < 50_000:
            earlier.append(question)
        yield question


def make(folder: Path, prompts_wanted: int, samples: int, seed: int) -> None:
    """A folder of prompts, and stores of their completions and verdicts in an order of arrival."""
    import pyarrow.parquet as pq

    from openr1.records import COMPLETION_SCHEMA, PROMPT_SCHEMA, VERDICT_SCHEMA, to_table

    draw = random.Random(seed)
    for name in ("prompts", "completions", "verdicts"):
        (folder / name).mkdir(parents=True)
    prompts, completions, verdicts = [], [], []
    sentences = [" ".join(draw.choices(WORDS, k=12)) + "." for _ in range(20_000)]
    number = 0

    def flush(final: bool) -> None:
        nonlocal number
        if not completions or (len(completions) < PART and not final):
            return
        draw.shuffle(completions)
        schemas = {"completions": COMPLETION_SCHEMA, "verdicts": VERDICT_SCHEMA}
        for name, found in (("completions", completions), ("verdicts", verdicts)):
            pq.write_table(to_table(found, schemas[name]), folder / name / f"part-{number:05d}.parquet")
            found.clear()
        number += 1

    for i, question in enumerate(questions(prompts_wanted, draw)):
        prompt_id = f"{draw.getrandbits(64):016x}"
        prompts.append(
            {
                "prompt_id": prompt_id,
                "task": "algebra" if i % 3 else "geometry",
                "messages": [{"role": "user", "content": question}],
                "answer": "2",
                "verifier": "math",
                "metadata": "{}",
            }
        )
        for sample in range(samples):
            text = completion(question, sentences, draw)
            key = {"prompt_id": prompt_id, "sample_index": sample}
            completions.append(
                key
                | {"text": text, "finish_reason": "stop", "prompt_tokens": 50, "completion_tokens": len(text) // 4}
                | {"seed": sample, "answer_start": text.index("</think>") + 8}
            )
            verdicts.append(key | {"status": draw.choice(("correct", "wrong")), "verifier": "math", "version": "1"})
        flush(False)
    flush(True)
    table = to_table(prompts, PROMPT_SCHEMA)
    pq.write_table(table, folder / "prompts" / "data-00000.parquet", row_group_size=PART)


def completion(question: str, sentences: list[str], draw: random.Random) -> str:
    body = " ".join(draw.choices(sentences, k=10))
    return f"<think>We are asked: {question}. {body}</think>\nThe answer is \\boxed{{2}}."


# -------------------------------------------------------------------------------------------------------- measuring
def curate(folder: Path, steps: list[dict[str, Any]], inputs: list[str]) -> dict[str, Any]:
    """Run the stage as the engine does; seconds, and what the account says."""
    from openr1.metrics import MetricLog
    from openr1.stages import curate as stage
    from openr1.stages.base import Input, StageContext
    from openr1.stages.settings import CurateStage

    raw = {"kind": "curate", "seed": 0, "inputs": {n: f"a/{n}" for n in inputs}, "curate": {"steps": steps}}
    where = {"data": "prompts", "completions": "completions", "verdicts": "verdicts"}
    read = {n: Input(n, folder / where[n], where[n], "") for n in inputs}
    idle = resident_mb()
    start = time.perf_counter()
    with TemporaryDirectory(dir=folder) as out:
        log = MetricLog(Path(out) / "metrics.jsonl")
        context = StageContext("bench", "curate", Path(out), CurateStage.model_validate(raw), read, log)
        result = stage.run(context)
        seconds = time.perf_counter() - start
        disk = sum(p.stat().st_size for p in Path(out).rglob("*.parquet"))
    counts = result.counts
    return {
        "seconds": seconds,
        "cpu_seconds": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        "peak_mb": resident_mb(),
        "idle_mb": idle,
        "output_mb": disk / 2**20,
        "phases": result.phases,
        "counts": {k: counts[k] for k in ("in", "out", "prompts", "rl")},
        "dropped": counts["dropped"],
    }


def resident_mb() -> float:
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(*words: str) -> str:
    """This file in a process of its own, on one thread."""
    one = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}
    done = subprocess.run(
        [sys.executable, __file__, *words], env={**os.environ, **one}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def measure(rows: list[int], folder: Path, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {"chain": {}, "dedup": {}}
    for n in rows:
        for what, size in (("chain", (n // SAMPLES, SAMPLES)), ("dedup", (n, 0))):
            data = folder / f"{what}-{n}"
            child("--make", str(data), "--rows", *map(str, size), "--seed", str(seed))
            found[what][n] = json.loads(child("--measure", what, "--folder", str(data)))
            subprocess.run(["rm", "-r", str(data)], check=True)
            show(what, n, found[what][n])
    for what, by_rows in found.items():
        if len(by_rows) > 1:
            few, many = min(by_rows), max(by_rows)
            growth = by_rows[many]["cpu_seconds"] / by_rows[few]["cpu_seconds"]
            print(f"{what}: {many / few:g} times the rows take {growth:.1f} times the core-seconds", flush=True)
    return found


def show(what: str, n: int, one: dict[str, Any]) -> None:
    unit = "completions" if what == "chain" else "prompts"
    print(
        f"{what:6} {n:>10,} {unit:11} {one['seconds']:8.1f} s {one['cpu_seconds']:8.1f} core-s "
        f"{n / one['cpu_seconds']:9,.0f} rows a core-s  peak {one['peak_mb']:7,.0f} MB "
        f"({one['idle_mb']:,.0f} MB before the first row), writes {one['output_mb']:,.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the made-up rows lie while they are needed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=["chain", "dedup"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make, *args.rows, args.seed)
    elif args.measure:
        whole = args.measure == "chain"
        inputs = ["data", "completions", "verdicts"] if whole else ["data"]
        print(json.dumps(curate(args.folder, CHAIN if whole else DEDUP, inputs)))
    else:
        with TemporaryDirectory(dir=args.folder) as folder:
            found = measure(args.rows, Path(folder), args.seed)
        if args.json:
            args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
