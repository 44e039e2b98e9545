"""Benchmarks as questions: every one loads from rows with its real columns; what cannot be asked is one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from test_benchmarks import ROWS

from openr1.errors import OutsideError, UserError
from openr1.records import Completion
from openr1.tasks.definitions import benchmark_names, load_benchmark
from openr1.tasks.questions import BenchmarkQuestion, load_questions
from openr1.verify import grade_completions


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENR1_DATA_DIR", str(tmp_path))
    return tmp_path


def rows(folder: Path, name: str, *found: dict[str, Any]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found))


def verdict(question: BenchmarkQuestion, answer: str, sample: int = 0) -> str:
    text = f"\\boxed{{{answer}}}"
    completion = Completion(question.id, sample, text, "stop", 1, 1, 0)
    return grade_completions([question.prompt(sample)], [completion])[0].status


@pytest.mark.parametrize("name", [n for n in benchmark_names() if load_benchmark(n).programs is None])
def test_every_benchmark_loads_and_grades_its_own_gold(name: str, data: Path) -> None:
    if name in ROWS:
        rows(data, name, ROWS[name])
    questions = load_questions(name, network=False)
    asked = questions[0].prompt()
    assert "{" not in asked.messages[0]["content"].replace("\\boxed{}", "")
    assert questions[0].text in asked.messages[0]["content"]
    assert verdict(questions[0], str(asked.answer)) == "correct"
    assert asked.prompt_id == questions[0].id
    if name not in ROWS:
        assert len(questions) == load_benchmark(name).problems


def test_gpqa_shuffles_its_choices_by_sample_and_seed_and_the_gold_goes_along(data: Path) -> None:
    rows(data, "gpqa_diamond", ROWS["gpqa_diamond"])
    question = load_questions("gpqa_diamond")[0]
    golds = [question.prompt(i).answer for i in range(40)]
    assert set(golds) == set("ABCD")
    for i in range(40):
        prompt = question.prompt(i)
        shown = dict(
            line.split(". ", 1) for line in prompt.question.splitlines() if line[:3] in ("A. ", "B. ", "C. ", "D. ")
        )
        assert sorted(shown.values()) == ["11", "12", "13", "14"]
        assert shown[str(prompt.answer)] == "12"
    assert golds == [question.prompt(i).answer for i in range(40)]
    assert golds != [question.prompt(i, seed=1).answer for i in range(40)]
    assert len({question.prompt(i).prompt_id for i in range(40)}) == 1


def test_choices_that_are_not_shuffled_keep_their_letters(data: Path) -> None:
    rows(data, "mmlu_pro", ROWS["mmlu_pro"] | {"options": ["11", "", "12"], "answer": "C"})
    prompt = load_questions("mmlu_pro")[0].prompt(5)
    assert prompt.answer == "C" and "C. 12" in prompt.question


def test_a_csv_of_gpqa_is_read(data: Path) -> None:
    with open(data / "gpqa_diamond.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, list(ROWS["gpqa_diamond"]))
        writer.writeheader()
        writer.writerow(ROWS["gpqa_diamond"])
    assert load_questions("gpqa_diamond")[0].key == "rec1"


def test_suites_are_the_same_questions_again_and_each_once() -> None:
    first, again = load_questions("reasoning_gym_sums"), load_questions("reasoning_gym_sums")
    assert [q.id for q in first] == [q.id for q in again]
    assert len({q.text for q in first}) == len(first) == 200
    hard = {q.text for q in load_questions("reasoning_gym_hard")}
    assert not hard & {q.text for q in load_questions("reasoning_gym")}


def test_a_question_that_comes_twice_is_asked_once(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = ROWS["aime25"]
    rows(data, "aime25", row, row | {"id": "1"}, row | {"id": "2", "problem": "Another one?"})
    assert [q.key for q in load_questions("aime25")] == ["0", "2"]


def test_the_first_ones_are_asked_where_there_is_a_limit(data: Path) -> None:
    rows(data, "aime25", *(ROWS["aime25"] | {"id": str(i), "problem": f"{i}?"} for i in range(5)))
    assert [q.key for q in load_questions("aime25", limit=2)] == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "changes", "line"),
    [
        ("aime25", [{"answer": ""}], "benchmark aime25, row 0: gold missing: answer holds no answer"),
        ("gsm8k", [{"answer": "no hashes here"}], "benchmark gsm8k, row 0: gold missing"),
        (
            "aime25",
            [{}, {"problem": "Other?"}],
            "benchmark aime25: 1 ids come twice .0.; its file",
        ),
        ("mmlu_pro", [{"answer": "J"}], "benchmark mmlu_pro, row 0: gold 'J' is none of its 2 choices"),
        ("aime25", [{"problem": " "}], "benchmark aime25, row 0: no question in problem"),
    ],
)
def test_rows_that_cannot_be_asked_are_one_line_each(
    name: str, changes: list[dict[str, Any]], line: str, data: Path
) -> None:
    rows(data, name, *(ROWS[name] | change for change in changes))
    with pytest.raises(UserError, match=line) as caught:
        load_questions(name)
    assert len(caught.value.problems) == 1


def test_missing_columns_and_missing_data_say_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "gsm8k.jsonl").write_text('{"prompt": "x", "answer": "#### 1"}\n')
    with pytest.raises(UserError, match="benchmark gsm8k: no column 'question' .*there is prompt, answer"):
        load_questions("gsm8k")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(data / "hub"))
    with pytest.raises(UserError, match="benchmark math_500: .*hf download HuggingFaceH4/MATH-500.*OPENR1_DATA_DIR"):
        load_questions("math_500", network=False)


def test_no_network_is_an_outside_error_and_says_how_to_get_the_data(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(data / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OutsideError, match="benchmark ioi24: .*hf download open-r1/ioi .*OPENR1_DATA_DIR") as caught:
        load_questions("ioi24")
    assert "\n" not in str(caught.value)
