"""Stage 4 on two processes: a curriculum by measured pass rates, general prompts and a preference model from a step on
are what one process makes of them."""

from __future__ import annotations

from pathlib import Path

import parallel_helpers as run
import pytest
from tiny_classifier import tiny_classifier

from openr1.metrics import of_the_machine
from openr1.stages.base import pass_rates, read_prompts

pytestmark = pytest.mark.slow
CLOSE = 2e-5  # two processes add the same numbers in another order
RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.base: sft
  - /model@stages.base.model: qwen3_tiny
  - /stage@stages.generate: generate
  - /stage@stages.verify: verify
  - /stage@stages.curate: curate
  - /stage@stages.one: grpo
  - /stage@stages.two: grpo
  - _self_
track: {{mode: "off"}}
cluster: {{threads: 2, workers: 1}}
stages:
  prompts:
    task: ${{data}}
    splits: {{train: {{size: 2000}}, rl: {{size: 24}}, general: {{size: 16}}}}
  base:
    inputs: {{data: prompts/train}}
    model: {{layers: 2, hidden: 64, ffn: 128, heads: 2, kv_heads: 1}}
    train: {{per_device_train_batch_size: 64, learning_rate: 3.0e-3, max_steps: 150, max_length: 128}}
  generate:
    inputs: {{data: prompts/rl, model: base/model}}
    sampling: {{max_new_tokens: 48}}
  verify:
    inputs: {{data: prompts/rl, completions: generate/store}}
  curate:
    inputs: {{data: prompts/rl, completions: generate/store, verdicts: verify/store}}
  one: &grpo
    inputs: {{data: curate/rl, general: prompts/general, model: base/model}}
    curriculum: {{spread: 0.1}}
    general_from_step: 3
    train:
      per_device_train_batch_size: 16
      num_generations: 4
      max_completion_length: 12
      learning_rate: 1.0e-3
      max_steps: 5
    reward:
      parts:
        varied: {{weight: 0.5, function: "train_helpers:varied"}}
        helpful: {{from_step: 4, scorer: {{kind: classifier, source: {classifier}}}}}
  two:
    <<: *grpo
    train:
      per_device_train_batch_size: 8
      num_generations: 4
      max_completion_length: 12
      learning_rate: 1.0e-3
      max_steps: 5
    parallel: {{kind: ddp, processes: 2}}
"""


def test_two_processes_make_of_stage_4_what_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    (folder / "recipes/recipe").mkdir(parents=True)
    text = RECIPE.format(classifier=tiny_classifier(tmp_path))
    (folder / "recipes/recipe/pairs.yaml").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(Path(run.__file__).parent))
    for name in ("prompts", "base", "generate", "verify", "curate", "one", "two"):
        run.stage(folder, name)
    rates = pass_rates(folder / "runs/run/curate/rl")
    assert len({rate for rate in rates.values() if rate is not None}) > 1, "the curriculum needs a difference"

    one, two = run.completions(folder, "one"), run.completions(folder, "two")
    for name in ("step", "prompt_id", "sample_index", "completion", "completion_tokens"):
        assert two[name].equals(one[name]), name
    for name in ("total", "part/helpful", "advantage"):
        found, expected = two[name].to_pylist(), one[name].to_pylist()
        assert [x is None for x in found] == [x is None for x in expected], name
        assert [x or 0.0 for x in found] == pytest.approx([x or 0.0 for x in expected], abs=1e-4), name
    general = {p.prompt_id for p in read_prompts(folder / "runs/run/prompts/general")}
    rows = one.to_pylist()
    asked = {step: [r for r in rows if r["step"] == step] for step in range(1, 6)}
    assert not any(r["prompt_id"] in general for step in (1, 2) for r in asked[step])
    assert any(r["prompt_id"] in general for step in (3, 4, 5) for r in asked[step])
    for row in rows:
        assert (row["part/helpful"] is not None) == (row["step"] >= 4 and row["prompt_id"] in general)
    early = [rates[r["prompt_id"]] or 0.0 for r in asked[1]]
    late = [rates[r["prompt_id"]] or 0.0 for r in asked[2]]
    assert min(early) >= max(late) - 0.1, "from easy to hard"

    for a, b in zip(run.metrics(folder, "one"), run.metrics(folder, "two"), strict=True):
        names = {n for n in a if not of_the_machine(n)}
        assert names == {n for n in b if not of_the_machine(n)}
        for name in names:
            assert b[name] == pytest.approx(a[name], abs=CLOSE, rel=CLOSE), name
    before, after = run.weights(folder, "one"), run.weights(folder, "two")
    assert all(tensor.allclose(after[name], atol=1e-4) for name, tensor in before.items())
