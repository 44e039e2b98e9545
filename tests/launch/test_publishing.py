"""Publish stages before anything runs: off without a repository, refused where nothing could be sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openr1.cli import run_cli
from openr1.config.recipe import Recipe, save_run_yaml
from openr1.errors import UserError
from openr1.launch.check import check
from openr1.launch.key import key_of
from openr1.launch.plan import make_plan
from openr1.launch.status import run_status
from openr1.launch.words import compose

NAMED = "stages.publish_dataset.repo=alice/traces"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))


def recipe(*words: str) -> Recipe:
    return compose(["recipe=tiny_short", "run=r", *words])[0]


def refused(*words: str) -> str:
    with pytest.raises(UserError) as e:
        recipe(*words)
    return str(e.value)


def test_without_a_repository_a_stage_is_off_and_changes_no_key(tmp_path: Path) -> None:
    plain, named = recipe(), recipe(NAMED)
    steps = {s.stage: s for s in make_plan(plain, tmp_path)}
    assert steps["publish_dataset"].action == steps["publish_model"].action == "skip"
    assert steps["publish_dataset"].why == "off; stages.publish_dataset.repo=OWNER/NAME has it published"
    assert {s.stage: s.action for s in make_plan(named, tmp_path)}["publish_dataset"] == "run"
    assert all(key_of(plain.stages[n], {}) == key_of(named.stages[n], {}) for n in plain.stages if "publish" not in n)
    with pytest.raises(UserError, match=r"publish_model: there is nothing to run again: it is off"):
        make_plan(plain, tmp_path, rerun=["publish_model"])
    save_run_yaml(plain, tmp_path)
    rows, _ = run_status(tmp_path)
    (row,) = [r for r in rows if r.stage == "publish_model"]
    assert (row.state, row.note) == ("off", "stages.publish_model.repo=OWNER/NAME has it published")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stages.publish_dataset.repo=traces"], "stages.publish_dataset.repo 'traces': give owner/name"),
        ([NAMED, "stages.publish_dataset.prefix=a/b"], "stages.publish_dataset.prefix 'a/b': letters, digits"),
        ([NAMED, "stages.publish_dataset.checkpoints=true"], "stages.publish_dataset.checkpoints is for models"),
        (["stages.publish_dataset.inputs.sft=grpo/model"], "are not one publication"),
        (["stages.publish_dataset.inputs.more=prompts/train"], "are not one publication"),
        (["~stages.publish_model.inputs.model"], "nothing to publish; connect a model"),
        (["stages.publish_model.inputs.model=generate/store"], "holds completions; a publish stage reads"),
        (["stages.publish_model.inputs.model=nowhere/model"], "no stage is called 'nowhere'"),
        (["stages.publish_model.repos=me/x"], "no such key; did you mean repo?"),
    ],
)
def test_what_no_publication_can_be_is_refused_with_the_recipe(words: list[str], said: str) -> None:
    assert said in refused(*words)


def test_check_refuses_what_could_not_be_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told = check(recipe(NAMED))
    assert told["problems"] == [] and any("whether alice/traces may be written" in n for n in told["not_checked"])
    offline = recipe(NAMED, "cluster=slurm_h100_8", "cluster.internet=false")
    (problem,) = [p for p in check(offline)["problems"] if "publish" in p]
    assert problem.startswith("stages.publish_dataset: nodes of slurm_h100_8 have no internet")
    monkeypatch.delenv("HF_TOKEN")
    (problem,) = check(recipe(NAMED))["problems"]
    assert problem.startswith("stages.publish_dataset: there is no token of the Hub here")
    assert check(recipe())["problems"] == []


def test_run_refuses_it_too_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("OPENR1_RUNS", str(tmp_path))
    assert run_cli(["run", "recipe=tiny_short", "run=r", NAMED]) == 1
    assert "publish_dataset: there is no token" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_on_slurm_it_is_a_job_without_a_gpu_and_without_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENR1_RUNS", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    words: list[Any] = ["submit", "recipe=openr1_math_220k", "run=r", "--dry-run", "--json"]
    assert run_cli([*words, NAMED]) == 0
    jobs = {j["stage"]: j for j in json.loads(capsys.readouterr().out)["jobs"]}
    assert jobs["publish_dataset"]["gpus"] == 0 and jobs["publish_dataset"]["after"] == ["curate"]
    script = (tmp_path / "r" / "publish_dataset" / "job.sbatch").read_text()
    assert "--gres" not in script and "--cpus-per-task=16" in script and "hf_x" not in script
    assert run_cli(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert "publish_dataset" not in [j["stage"] for j in told["jobs"]] and told["done"] == []
