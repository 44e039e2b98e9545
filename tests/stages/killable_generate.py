"""`killable_generate.py OUT PROMPTS K KILLS`: a generate stage with a tiny model, once whole and once with kills.

torch is imported once; every attempt is a fork that runs the stage as a worker of `openr1 run` does, manifest, lock
and store included. Prints the rows that the store held after each kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from openr1.config import Recipe, validate
from openr1.launch.engine import run_stage
from openr1.launch.plan import make_plan
from openr1.records import COMPLETION_SCHEMA, Completion
from openr1.store import AppendStore

ROW_BYTES = 200  # of a journal
MODEL = {
    "source": "scratch", "architecture": "qwen3", "layers": 1, "hidden": 16, "ffn": 32, "heads": 1, "kv_heads": 1,
    "context": 64, "dtype": "float32", "tie_embeddings": True, "rope_theta": 10000.0, "tokenizer": {"kind": "char"},
}  # fmt: skip


def recipe(prompts: int, k: int) -> Recipe:
    stages = {
        "prompts": {
            "kind": "prompts",
            "seed": 0,
            "task": {"name": "arithmetic", "digits": [2, 3]},
            "splits": {"rl": {"size": prompts}},
        },
        "generate": {
            "kind": "generate",
            "seed": 0,
            "inputs": {"data": "prompts/rl"},
            "model": MODEL,
            "engine": {"name": "transformers", "batch_size": 16},
            "sampling": {"temperature": 1.0, "max_new_tokens": 4},
            "k": k,
        },
    }
    tree = {"recipe": "killable", "run": "r", "seed": 0, "cluster": {"kind": "local"}, "stages": stages}
    return validate({**tree, "track": {"mode": "off", "project": "p"}})


def store(folder: Path) -> AppendStore[Completion]:
    return AppendStore(folder / "generate" / "store", Completion, COMPLETION_SCHEMA, {}).load()


def attempt(made: Recipe, folder: Path) -> int:
    """The process id of a fork that runs what is unfinished."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        for step in make_plan(made, folder):
            if step.action != "skip":
                run_stage(made, folder, step)
        status = 0
    finally:
        os._exit(status)


def main(out: Path, prompts: int, k: int, kills: int) -> None:
    import torch

    from openr1.engines import open_engine
    from openr1.engines.settings import TransformersSettings
    from openr1.models.scratch import init_model
    from openr1.models.settings import ModelSettings

    torch.set_num_threads(1)
    folder = init_model(ModelSettings.model_validate(MODEL), 0, out / "model")
    open_engine(TransformersSettings(name="transformers", batch_size=1, device="cpu"), folder)  # imports once
    made = recipe(prompts, k)
    assert os.waitpid(attempt(made, out / "calm"), 0)[1] == 0
    rng, sizes = random.Random(0), []
    journal = out / "killed" / "generate" / "store"
    for _ in range(kills):
        begun = len(store(out / "killed")) if journal.is_dir() else 0
        before = committed(journal)
        process = attempt(made, out / "killed")
        if rng.random() < 0.2:  # before its first row, or thereabouts
            time.sleep(rng.uniform(0, 0.3))
        else:  # some rows later, and somewhere in the middle of the next
            wanted = before + rng.uniform(0, 0.7) / kills * prompts * k * ROW_BYTES
            while committed(journal) <= wanted and not os.waitpid(process, os.WNOHANG)[0]:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        sizes.append(len(store(out / "killed")) if journal.is_dir() else begun)
    assert os.waitpid(attempt(made, out / "killed"), 0)[1] == 0
    print(json.dumps(sizes))


def committed(folder: Path) -> int:
    """Bytes in the journals of a store, which only grow while a killable stage runs."""
    return sum(p.stat().st_size for p in folder.glob("*.jsonl"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
