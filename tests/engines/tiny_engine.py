"""A tiny random Qwen3 with a character tokenizer; `tiny_engine.py MODEL OUT` fills stores, killing itself at it."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from openr1.engines import collect, make_requests, open_engine
from openr1.engines.settings import SamplingSettings, TransformersSettings
from openr1.records import COMPLETION_SCHEMA, Completion, Prompt
from openr1.store import AppendStore

PROMPTS = [
    Prompt(
        task="t", messages=[{"role": "user", "content": f"{'9' * (i % 7)}{i}+{i * i}"}], answer=str(i), verifier="math"
    )
    for i in range(26)
]
SAMPLING = SamplingSettings(temperature=1.0, max_new_tokens=24)
BATCH = 8


def make_model(folder: Path) -> Path:
    from openr1.models.scratch import init_model
    from openr1.models.settings import ModelSettings, TokenizerSettings

    settings = ModelSettings(
        source="scratch", architecture="qwen3", layers=2, hidden=32, ffn=64, heads=2, kv_heads=1, context=128,
        dtype="float32", tie_embeddings=True, rope_theta=10000.0, chat_template="chatml",
        tokenizer=TokenizerSettings(kind="char", words=["<think>", "</think>"]),
    )  # fmt: skip
    return init_model(settings, 0, folder)


def open_store(folder: Path) -> AppendStore[Completion]:
    return AppendStore(folder, Completion, COMPLETION_SCHEMA, {"sampling": SAMPLING.identity()})


def fill(model: Path, folder: Path) -> None:
    engine = open_engine(TransformersSettings(name="transformers", batch_size=BATCH, device="cpu"), model)
    with open_store(folder) as store:
        # slow commits, so that a kill falls between them or into one
        collect(engine, make_requests(PROMPTS, 6, 3), SAMPLING, store, on_commit=lambda _: time.sleep(0.02))


def attempt(model: Path, folder: Path) -> int:
    """`fill` in a process of its own (a fork, so that torch is imported once)."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        fill(model, folder)
        status = 0
    finally:
        os._exit(status)


def main(model: Path, out: Path) -> None:
    """The store once without a break in `whole`, and once with five kills in `killed`; prints its rows after each."""
    open_engine(TransformersSettings(name="transformers", batch_size=BATCH, device="cpu"), model)  # imports once
    rng = random.Random(0)
    sizes = []
    for _ in range(5):
        before = len(open_store(out / "killed").load())
        process = attempt(model, out / "killed")
        while len(open_store(out / "killed").load()) <= before:
            assert os.waitpid(process, os.WNOHANG) == (0, 0), "it ended before it could be killed"
            time.sleep(0.005)
        time.sleep(rng.random() * 0.08)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        sizes.append(len(open_store(out / "killed").load()))
    for name in ("killed", "whole"):
        assert os.waitpid(attempt(model, out / name), 0)[1] == 0
    print(json.dumps(sizes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
