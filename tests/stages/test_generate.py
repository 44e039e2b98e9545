"""The generate stage as a user meets it: limits, failures, refusals, growth. A scripted server answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import ScriptedServer

from openr1.cli import run_cli
from openr1.engines.base import with_system
from openr1.errors import OpenR1Error
from openr1.metrics import known_metric, read_metrics
from openr1.records import COMPLETION_SCHEMA, Completion
from openr1.stages.base import read_prompts
from openr1.store import AppendStore
from openr1.verify import grade

RECIPE = """\
# @package _global_
defaults:
  - /data: addition
  - /stage@stages.prompts: prompts
  - /stage@stages.generate: generate
  - _self_
stages:
  prompts: {task: "${data}", splits: {rl: {size: 40}}}
  generate: {inputs: {data: prompts/rl}, k: 4, sampling: {max_new_tokens: 64}}
"""
GPUS = "stages.generate.resources.gpus=2"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    with ScriptedServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def run(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`openr1 run` of the recipe with these words, in the run `r` of a folder of its own; the exit code."""
    server.calm()
    (tmp_path / "recipes" / "recipe").mkdir(parents=True)
    (tmp_path / "recipes" / "recipe" / "sums.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*words: str) -> int:
        engine = ["engine=openai", f"engine.base_url=[{server.url}]", "engine.concurrency=8", "engine.retries=1"]
        return run_cli(["run", "recipe=sums", "run=r", "track.mode=off", *engine, *words])

    return call


def manifest() -> dict[str, Any]:
    return json.loads(Path("runs/r/generate/manifest.json").read_text())


def rows() -> list[Completion]:
    return AppendStore(Path("runs/r/generate/store"), Completion, COMPLETION_SCHEMA, {}).load().rows()


def right() -> Counter[str]:
    """How many right completions each prompt has, by the verifier that everything else uses."""
    prompts = {p.prompt_id: p for p in read_prompts(Path("runs/r/prompts/rl"))}
    done = rows()
    of = [prompts[c.prompt_id] for c in done]
    found = grade([p.answer for p in of], [c.text for c in done], [p.verifier for p in of])
    return Counter({p: 0 for p in prompts}) + Counter(
        c.prompt_id for c, v in zip(done, found, strict=True) if v.status == "correct"
    )


def test_early_stop_asks_no_prompt_again_that_has_enough_and_growth_asks_for_the_rest(
    run: Run, server: ScriptedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.control(latency=0.02)
    assert run("stages.generate.early_stop.correct=1") == 0
    first, found = manifest(), right()
    asked = Counter(c.prompt_id for c in rows())
    skipped = first["counts"]["not_asked"]["enough correct"]
    assert first["counts"]["out"] == len(rows()) == 160 - skipped < 130
    assert all(asked[p] == 4 for p in asked if not found[p])  # who has no right answer was asked to the end
    assert len(asked) == 40 and len({c.key for c in rows()}) == len(rows())
    assert "enough correct" in capfd.readouterr().err
    # the same command: nothing to do; without early stop: the rest, and only the rest
    attempt, before = first["attempt"], server.stats()["answered"]
    assert run("stages.generate.early_stop.correct=1") == 0 and manifest()["attempt"] == attempt
    assert run() == 0
    assert "grow" in capfd.readouterr().err
    assert len(rows()) == 160 and server.stats()["answered"] - before == skipped
    assert manifest()["counts"] == {"in": 40, "out": 160, "new": skipped, "failed": 0, "not_asked": {}}


def test_a_token_budget_holds_over_all_attempts_and_more_of_it_goes_on(run: Run) -> None:
    assert run("stages.generate.token_budget=600") == 0
    found = manifest()
    spent, longest = found["tokens"]["generated"], max(c.completion_tokens for c in rows())
    # what was in flight still ends, and the stage counts what it has taken: at most four windows of 8 wait for it
    assert 600 <= spent < 600 + 6 * 8 * longest
    assert found["counts"]["not_asked"] == {"token budget": 160 - len(rows())}
    kept = {c.key: c.text for c in rows()}
    assert run("stages.generate.token_budget=1200") == 0
    again = manifest()
    assert 1200 <= again["tokens"]["generated"] < 1200 + 6 * 8 * longest
    assert kept.items() <= {c.key: c.text for c in rows()}.items()
    assert run() == 0 and len(rows()) == 160 and manifest()["counts"]["not_asked"] == {}


def test_failures_are_rows_with_a_reason_and_all_failed_is_an_error(
    run: Run, server: ScriptedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.control(refuse_word=["+1"])
    assert run() == 0
    found = manifest()
    failed = [c for c in rows() if c.error is not None]
    assert len(rows()) == 160 and found["counts"]["failed"] == len(failed) > 0
    assert sum(found["results"]["failures"].values()) == len(failed)
    assert {c.finish_reason for c in failed} == {"error"} and {c.text for c in failed} == {""}
    assert f"{len(failed)} failed (" in capfd.readouterr().err
    assert found["results"]["engine"] == {"name": "openai", "model": "tiny"}
    identity = json.loads(Path("runs/r/generate/store/identity.json").read_text())
    assert identity["model"] == {"served": "tiny"}


def test_progress_is_logged_with_the_vocabulary(run: Run) -> None:
    assert run() == 0
    lines = read_metrics(Path("runs/r/generate/metrics.jsonl"))
    assert lines[-1]["completions"] == 160 and lines[-1]["missing"] == 0 and lines[-1]["tokens_per_second"] > 0
    assert all(known_metric(name) for name in lines[-1] if name not in ("step", "time"))


def test_other_settings_are_refused_with_the_difference_and_added_defaults_are_not(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    capfd.readouterr()
    for word, said in (
        ("stages.generate.sampling.temperature=0.5", "settings.sampling.temperature: 1.0 -> 0.5"),
        ("stages.generate.system_prompt='Be brief.'", "settings.system_prompt: None -> 'Be brief.'"),
        ("stages.generate.prefill='<think>'", "settings.prefill: None -> '<think>'"),
        ("stages.generate.k=2", "k: 4 -> 2 would take rows away"),
    ):
        assert run(word) == 1
        assert said in capfd.readouterr().err
    # a manifest of a version that did not know a key: nothing has changed
    path = Path("runs/r/generate/manifest.json")
    old = json.loads(path.read_text())
    for known in (old["settings"], old["identity"]["settings"]):
        for name in ("early_stop", "token_budget", "system_prompt", "chat_template"):
            known.pop(name, None)
    path.write_text(json.dumps(old))
    assert run() == 0 and manifest()["attempt"] == 1
    with pytest.raises(OpenR1Error, match=r"temperature: 1.0 -> 0.5"):
        identity = json.loads(Path("runs/r/generate/store/identity.json").read_text())
        identity["sampling"]["temperature"] = 0.5
        AppendStore(Path("runs/r/generate/store"), Completion, COMPLETION_SCHEMA, identity).__enter__()


def test_kinds_runs_the_stages_of_a_kind_and_what_they_need(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("kinds=[prompts]") == 0
    assert Path("runs/r/prompts/manifest.json").exists() and not Path("runs/r/generate").exists()
    assert run("kinds=[generate]") == 0 and manifest()["status"] == "done"
    capfd.readouterr()
    assert run("kinds=[generat]") == 1 and "did you mean generate?" in capfd.readouterr().err
    assert run("kinds=[generate]", "stages=[prompts]") == 1 and "keep one" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stages.generate.early_stop.correct=9"], "early_stop.correct: 9 is more than k, 4"),
        (["stages.generate.sampling.temperature=0"], "0 gives 4 times the same completion"),
        (["engine.api=completions"], "completions needs the model's tokenizer"),
        (["engine.base_url=[localhost:8000]"], "is no address"),
        (["stages.generate.chat_template=chatml"], "a chat endpoint applies its own"),
        (["stages.generate.chat_template=chatl"], "did you mean chatml?"),
        (
            ["stages.generate.engine={name: vllm, tensor_parallel: 4}", "stages.generate.resources.gpus=2"],
            "take 4 GPUs",
        ),
    ],
)
def test_what_check_can_tell_from_settings_alone(
    run: Run, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run_cli(["check", "recipe=sums", "engine=openai", *words]) == 1
    assert said in capfd.readouterr().err


def test_a_system_prompt_goes_before_conversations_that_have_none() -> None:
    user, own = {"role": "user", "content": "1+1"}, {"role": "system", "content": "mine"}
    assert with_system([user], "be brief") == [{"role": "system", "content": "be brief"}, user]  # type: ignore[list-item]
    assert with_system([own, user], "be brief") == [own, user]  # type: ignore[list-item]
    assert with_system([user], None) == [user]  # type: ignore[list-item]
