"""A made-up run that curated a dataset and trained two models, written through the doors that stages use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from servers import Server, start

from openr1.manifest import Manifest, hash_path

if TYPE_CHECKING:
    from .publisher import Publisher

TASK = {"name": "arithmetic", "digits": [2, 3]}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": None, "max_new_tokens": 64}
STAGES: dict[str, dict[str, Any]] = {
    "prompts": {"kind": "prompts", "inputs": {}},
    "sft": {"kind": "sft", "inputs": {"data": "prompts/train"}},
    "generate": {"kind": "generate", "inputs": {"data": "prompts/rl", "model": "sft/model"}},
    "verify": {"kind": "verify", "inputs": {"data": "prompts/rl", "completions": "generate/store"}},
    "curate": {"kind": "curate", "inputs": {"completions": "generate/store", "verdicts": "verify/store"}},
    "grpo": {"kind": "grpo", "inputs": {"model": "sft/model", "data": "curate/rl"}},
    "evaluate": {"kind": "evaluate", "inputs": {"model": "grpo/model", "data": "prompts/eval"}},
}


class RunFolder:
    """Writes run.yaml and stages one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan(STAGES)

    def plan(self, stages: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {"recipe": "tiny", "run": "made-up", "seed": 7, "stages": stages}
        (self.folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def rows(self, stage: str, output: str, kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        folder = self.folder / stage / output
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "data-00000.parquet")
        return {output: {"path": output, "kind": kind, "hash": hash_path(folder), "rows": len(rows)}}

    def model(self, stage: str) -> dict[str, Any]:
        folder = self.folder / stage / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
        header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        return {"model": {"path": "model", "kind": "model", "hash": hash_path(folder), "rows": None}}

    def done(self, stage: str, outputs: dict[str, Any], **fields: Any) -> None:
        values: dict[str, Any] = {
            "versions": {"python": "3.11", "trl": "1.16.0"},
            "git": {"commit": "c0ffee", "dirty": False},
        }
        kind = STAGES.get(stage, {}).get("kind") or fields.pop("kind")
        Manifest(stage, kind, status="done", outputs=outputs, host="secret-host", **(values | fields)).save(
            self.folder / stage
        )

    def curate(self, sft: list[dict[str, Any]], **fields: Any) -> None:
        rows = [{"prompt_id": "a", "pass_rate": 0.5}]
        outputs = {"rl": self.rows("curate", "rl", "rl", rows)["rl"], **self.rows("curate", "sft", "sft", sft)}
        outputs |= self.rows("curate", "dropped", "dropped", [{"reason": "hf_" + "z" * 34}])
        counts = {"in": 20, "out": len(sft), "dropped": {"wrong": 15, "no_answer": 3}}
        self.done("curate", outputs, counts=counts, **fields)


def message(text: str) -> dict[str, Any]:
    return {"prompt_id": "a", "messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": text}]}


@pytest.fixture
def made(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "runs" / "made-up")
    run.done("prompts", run.rows("prompts", "train", "prompts", [{"question": "1+1"}]), settings={"task": TASK})
    training = {"results": {"steps": 40, "parameters": 801_664}, "tokens": {"trained": 9000}}
    run.done("sft", run.model("sft"), settings={"model": {"source": "scratch"}}, **training)
    run.done("generate", {}, settings={"k": 4, "sampling": SAMPLING, "engine": {"name": "transformers"}})
    run.done("verify", {}, results={"by_status": {"correct": 5, "wrong": 15}, "verifiers": ["math 3"]})
    run.curate([message("2"), message("<b>two</b> | 2")])
    run.done("grpo", run.model("grpo"), **training)
    scores = {"model": "grpo", "greedy": {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 100}, "verifier": "math 3"}
    run.done("evaluate", {}, results=scores)
    return run


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start("hub_server") as server:
        yield server


@pytest.fixture
def hub(server: Server) -> Server:
    """The server, empty and well."""
    server.heal()
    server.admin("clear")
    return server


@pytest.fixture
def alice(hub: Server, tmp_path: Path) -> Iterator[Publisher]:
    from .publisher import Publisher

    with Publisher(hub, tmp_path / "home") as publisher:
        yield publisher
