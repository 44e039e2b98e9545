"""Probes: when they are asked, that training does not notice, each once after a resume; and words of reflection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from train_helpers import GRPO_TRAIN, REWARD, Killed, KillingLog

from openr1.errors import UserError
from openr1.metrics import MetricLog, known_metric, read_metrics
from openr1.records import Prompt
from openr1.rewards import ComposedReward
from openr1.rewards.reflection import reflection_share
from openr1.train import rollouts
from openr1.train.settings import GRPOSettings

Train = Callable[..., Path]
PROBES = {"every": 2, "prompts": 3, "max_new_tokens": 6}


@pytest.fixture
def train(tiny: Path, prompts: list[Prompt], tmp_path: Path) -> Train:
    """`train(folder, kill=None, asked=prompts, **settings)`: five steps of GRPO, ended after step `kill`."""
    from openr1.train.grpo import run_grpo

    def run(name: str, kill: int | None = None, asked: Sequence[Prompt] | None = None, **settings: Any) -> Path:
        rate = {"learning_rate": settings.pop("learning_rate", GRPO_TRAIN["learning_rate"])}
        work = tmp_path / name
        log = work / "metrics.jsonl"
        run_grpo(
            model_dir=tiny,
            prompts=prompts,
            probe_prompts=prompts if asked is None else asked,
            settings=GRPOSettings(train=GRPO_TRAIN | rate, reward=REWARD, **settings),
            reward=ComposedReward(REWARD),
            out=work / "model",
            work=work,
            metrics=MetricLog(log) if kill is None else KillingLog(log, kill),
            seed=1,
        )
        return work

    return run


def files(work: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (work / "probes").iterdir()}


def test_the_same_prompts_are_asked_at_the_start_every_n_steps_and_at_the_end(
    train: Train, prompts: list[Prompt]
) -> None:
    work = train("run", probes=PROBES)
    assert sorted(files(work)) == [f"step-{n:06d}.parquet" for n in (0, 2, 4, 5)]
    for file in (work / "probes").iterdir():
        rows = pq.read_table(file).to_pylist()
        assert [r["prompt_id"] for r in rows] == [p.prompt_id for p in prompts[:3]]
        assert [r["gold"] for r in rows] == [p.answer for p in prompts[:3]]
        assert {r["step"] for r in rows} == {int(file.stem[5:])}
        assert all(r["status"] and 1 <= r["completion_tokens"] <= 6 for r in rows)


def test_the_model_that_answers_is_the_one_being_trained(train: Train, tiny: Path, prompts: list[Prompt]) -> None:
    from openr1.models.source import load_model, load_tokenizer
    from openr1.train.stop import model_answers

    work = train("run", probes=PROBES, learning_rate=0.05)
    answers = {}
    for step, folder in ((0, tiny), (5, work / "model")):
        found = model_answers(load_model(folder), load_tokenizer(folder), prompts[:3], 6, 3)
        answers[step] = [c.text for c, _ in found]
        kept = pq.read_table(work / f"probes/step-00000{step}.parquet").to_pylist()
        assert [r["completion"] for r in kept] == answers[step]
    assert answers[0] != answers[5]


def test_training_does_not_notice_and_its_seconds_leave_the_asking_out(train: Train) -> None:
    asked, plain = train("asked", probes=PROBES), train("plain")
    assert (asked / "model/model.safetensors").read_bytes() == (plain / "model/model.safetensors").read_bytes()
    assert rollouts.read(asked).equals(rollouts.read(plain))
    assert not (plain / "probes").exists()


def test_a_killed_stage_leaves_every_probe_once_with_the_same_bytes(train: Train) -> None:
    whole = train("whole", probes=PROBES)
    with pytest.raises(Killed):
        train("killed", kill=5, probes=PROBES)  # step 5 was asked, the newest checkpoint is of step 4
    assert "step-000005.parquet" in files(whole.parent / "killed")
    (whole.parent / "killed/probes/step-000005.parquet").write_bytes(b"half")
    assert files(train("killed", probes=PROBES)) == files(whole)
    assert (whole.parent / "killed/model/model.safetensors").read_bytes() == (
        whole / "model/model.safetensors"
    ).read_bytes()


def test_a_prefill_is_part_of_the_answer(train: Train) -> None:
    work = train("run", probes=PROBES | {"every": 9}, prefill="<think>")
    assert sorted(files(work)) == ["step-000000.parquet", "step-000005.parquet"]
    assert all(r["completion"].startswith("<think>") for r in pq.read_table(work / "probes").to_pylist())


def test_probes_without_prompts_are_refused(train: Train) -> None:
    with pytest.raises(UserError, match="`probes` input"):
        train("run", asked=[], probes=PROBES)


def test_the_share_of_reflecting_completions_is_logged(train: Train) -> None:
    words = ["1", "2", "3"]  # a random model writes no English
    work = train("run", reflection_words=words)
    kept = rollouts.read(work).to_pylist()
    for row in read_metrics(work / "metrics.jsonl"):
        texts = [r["completion"] for r in kept if r["step"] == row["step"]]
        assert row["reflection"] == reflection_share(texts, words)
    assert known_metric("reflection")
    assert "reflection" not in read_metrics(train("plain") / "metrics.jsonl")[0]
