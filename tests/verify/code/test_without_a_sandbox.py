"""A machine where nothing isolates: said before anything is graded, generated or loaded, with how to get a tier."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openr1 import cli
from openr1.errors import OutsideError
from openr1.records import PROMPT_SCHEMA, Prompt
from openr1.rewards.registry import verifiers_of
from openr1.rewards.settings import RewardSettings
from openr1.sandbox import tiers
from openr1.stages import benchmark, evaluate, grpo, verify
from openr1.stages.base import write_rows
from openr1.stages.settings import BenchmarkStage, GRPOStage, VerifyStage
from openr1.verify import prepare
from openr1.verify.code import verifier as code_verifier

INFO = {"verification_info": {"test_cases": [{"input": "", "output": "1"}]}}


@pytest.fixture
def no_tier(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    code_verifier.close_sandbox()
    tiers._probe.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(tiers.host, "_PACKAGED", "no_such_package")
    monkeypatch.setattr(tiers.confine, "landlock_version", lambda: 0)
    yield
    code_verifier.close_sandbox()
    tiers._probe.cache_clear()


def test_the_tier_is_a_fact_of_the_manifest() -> None:
    found = prepare(["math", "code", "code"])
    assert found["sandbox"]["tier"] in tiers.TIERS and found["sandbox"]["limits"]["cpu_s"] > 0
    assert prepare(["math"]) == {}


def test_grade_ends_with_exit_code_3(no_tier: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "programs.jsonl"
    path.write_text(json.dumps({"completion": "```python\nprint(1)\n```", **INFO}) + "\n")
    assert cli.run_cli(["grade", str(path), "--verifier", "code"]) == 3
    said = capsys.readouterr().err.strip()
    assert "no sandbox works here" in said and "install bubblewrap" in said and "\n" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["programs.jsonl"]


def _context(folder: Path, kind: str, settings: Any) -> Any:
    """What a stage is given, without anything that it would need after it has looked for a sandbox."""
    prompt = Prompt("t", [{"role": "user", "content": "?"}], None, "code", metadata=json.dumps(INFO))
    write_rows(folder / "data", [prompt], PROMPT_SCHEMA)
    inputs = {"data": SimpleNamespace(ref="prompts/train")}
    return SimpleNamespace(name=kind, settings=settings, path=lambda name: folder / name, inputs=inputs)


@pytest.mark.parametrize("kind", ["grpo", "verify", "evaluate", "benchmark"])
def test_stages_refuse_before_they_load_anything(kind: str, no_tier: None, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "grpo": GRPOStage.model_construct(reward=RewardSettings()),
        "verify": VerifyStage.model_construct(),
        "evaluate": None,
        "benchmark": BenchmarkStage.model_construct(benchmarks=["humaneval"], limit=1, trained_on=[]),
    }
    run = {"grpo": grpo, "verify": verify, "evaluate": evaluate, "benchmark": benchmark}[kind].run
    with pytest.raises(OutsideError, match="no sandbox works here .* install bubblewrap") as caught:
        run(_context(tmp_path, kind, settings[kind]))
    assert caught.value.exit_code == 3


def test_a_reward_in_the_sandbox_asks_for_it_whatever_its_prompts_name() -> None:

    asked = {"mine": {"function": "binary_code"}, "format": {}}
    assert verifiers_of(RewardSettings.model_validate({"parts": asked})) == ["code"]
    assert verifiers_of(RewardSettings.model_validate({"parts": {"code_format": {}}})) == []
