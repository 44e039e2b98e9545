"""The step `decontaminate` in a curate stage: who goes, what is told, and what belongs to the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from curate_helpers import Data, curated, prompt
from pydantic import TypeAdapter, ValidationError

from openr1.curate.contamination import MOST_PAIRS
from openr1.curate.settings import CurateSettings
from openr1.errors import UserError
from openr1.launch.check import check
from openr1.launch.key import key_of
from openr1.launch.plan import make_plan
from openr1.launch.words import compose
from openr1.stages.settings import CurateStage
from openr1.tasks.benchmarks import benchmark_texts
from openr1.tasks.definitions import benchmark_names

CLEAN = "A farmer plants 48 rows of barley and 17 rows of oats. How many rows are there on the whole farm?"


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("OPENR1_DATA_DIR", raising=False)


def champ(i: int) -> str:
    texts = benchmark_texts("champ")
    assert isinstance(texts, list)
    return texts[i][1]


def test_copies_go_with_their_completions_and_are_told(tmp_path: Path) -> None:
    data = Data()
    kept = data.add(prompt(CLEAN), ("a b", "correct"))
    copy = data.add(
        prompt(f"Solve this:\n{champ(0).upper()}\nAnswer within \\boxed{{}}."), ("c", "correct"), ("d", "wrong")
    )
    out = curated(tmp_path, data, [{"step": "decontaminate"}])
    assert out.chosen() == [(kept.prompt_id, 0)]
    assert out.reasons() == {(copy.prompt_id, i): "contaminated: champ" for i in (0, 1)}
    assert out.reasons("prompt") == {copy.prompt_id: "contaminated: champ"}
    detail = next(r["detail"] for r in out.rows("dropped") if r["unit"] == "prompt")
    assert "whole copy of problem P_Combinatorics_1" in detail and "coverage 1.00" in detail

    told = out.result.results["steps"]["decontaminate"]["benchmarks"]
    assert set(told) == set(benchmark_names())
    assert (told["champ"]["status"], told["champ"]["problems"], told["champ"]["hits"]) == ("checked", 144, 1)
    [pair] = told["champ"]["pairs"]
    assert pair["problem"] == champ(0) and pair["how"] == "whole" and pair["row"].startswith("Solve this")
    assert told["gsm8k"]["status"] == "not checked" and "OPENR1_DATA_DIR" in told["gsm8k"]["why"]
    [line] = [f for f in out.result.results["funnel"] if f["step"] == "decontaminate" and f["unit"] == "prompt"]
    assert (line["in"], line["out"], line["dropped"]) == (2, 1, {"contaminated: champ": 1})


def test_pairs_are_capped_and_hits_are_not(tmp_path: Path) -> None:
    data = Data()
    data.add(prompt(CLEAN), ("a", "correct"))
    for i in range(MOST_PAIRS + 5):
        data.add(prompt(champ(i)), ("a", "correct"))
    out = curated(tmp_path, data, [{"step": "decontaminate", "against": ["champ"]}])
    told = out.result.results["steps"]["decontaminate"]["benchmarks"]
    assert set(told) == {"champ"}
    assert told["champ"]["hits"] == MOST_PAIRS + 5 and len(told["champ"]["pairs"]) == MOST_PAIRS


def test_given_files_are_checked_against(tmp_path: Path) -> None:
    file = tmp_path / "exam.jsonl"
    file.write_text(json.dumps({"question": "What is 17 + 26?"}) + "\n" + json.dumps({"question": None}) + "\n")
    step = {"step": "decontaminate", "against": [], "files": {"exam": str(file)}, "column": "question"}
    data = Data()
    data.add(prompt("what is 17+26"), ("43", "correct"))
    data.add(prompt("What is 17 + 27?"), ("44", "correct"))
    out = curated(tmp_path / "run", data, [step])
    assert list(out.reasons().values()) == ["contaminated: exam"]
    assert out.result.results["steps"]["decontaminate"]["benchmarks"]["exam"]["problems"] == 1
    with pytest.raises(UserError, match="exam.jsonl: no column 'problem'.*question"):
        curated(tmp_path / "run", data, [step | {"column": "problem"}])
    with pytest.raises(UserError, match="nowhere.jsonl: no such file"):
        curated(tmp_path / "run", data, [step | {"files": {"exam": str(tmp_path / "nowhere.jsonl")}}])


def test_files_that_cannot_be_checked_against_are_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "exam.jsonl").write_text('{"question": "What is 17 + 26?", "hint": " "}\n')
    for file, column, said in (
        ("nowhere.jsonl", "question", "nowhere.jsonl: no such file; mend decontaminate.files"),
        ("exam.jsonl", "qestion", "exam.jsonl: no column 'qestion' (decontaminate.column); did you mean question?"),
        ("exam.jsonl", "hint", "exam.jsonl: no row has a text in the column 'hint'"),
    ):
        step = f"{{step: decontaminate, files: {{exam: {tmp_path / file}}}, column: {column}}}"
        recipe, _ = compose(["recipe=tiny_generate", f"stages.curate.curate.steps=[{step}]"])
        assert [said in problem for problem in check(recipe)["problems"]] == [True]
        with pytest.raises(UserError) as caught:
            make_plan(recipe, tmp_path / "run")
        assert [said in problem for problem in caught.value.problems] == [True]


def _key(**step: object) -> str:
    stage = CurateStage.model_validate(
        {
            "kind": "curate",
            "seed": 0,
            "inputs": {"data": "a/b"},
            "curate": {"steps": [{"step": "decontaminate"} | step]},
        }
    )
    return key_of(stage, {"data": "0"})


def test_the_content_of_what_is_checked_against_is_in_the_key_and_its_place_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, moved = tmp_path / "one.jsonl", tmp_path / "moved.jsonl"
    one.write_text('{"problem": "a"}\n')
    moved.write_text('{"problem": "a"}\n')
    before = _key(files={"exam": str(one)})
    assert _key(files={"exam": str(moved)}) == before
    one.write_text('{"problem": "another one"}\n')
    assert _key(files={"exam": str(one)}) != before
    without = _key()
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "a", "answer": "#### 1"}\n')
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    assert _key() != without


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"against": ["gsm8"]}, "no benchmark 'gsm8'; did you mean gsm8k?"),
        ({"against": []}, "against is empty and there are no files"),
        ({"files": {"champ": "x.jsonl"}}, "champ is the name of a benchmark"),
        ({"coverage": 0.0}, "greater than 0"), ({"ngram": 2}, "greater than or equal to 5"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(step: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as e:
        TypeAdapter(CurateSettings).validate_python({"steps": [{"step": "decontaminate"} | step]})
    assert message in str(e.value)
