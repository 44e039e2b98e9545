"""The numbers of a benchmark against hand-counted samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from openr1.errors import UserError
from openr1.evaluate.scores import Sample, accuracy_of, budget_curve, score
from openr1.evaluate.second import disagrees, second_opinions
from openr1.evaluate.seen import flagged, training_files
from openr1.evaluate.settings import BenchmarkSettings
from openr1.records import Completion, Verdict
from openr1.tasks.definitions import load_benchmark
from openr1.tasks.questions import BenchmarkQuestion


def question(name: str = "q", text: str = "How many?", **fields: Any) -> BenchmarkQuestion:
    values = {"gold": "4", "template": "{question}", "verifier": "math", **fields}
    return BenchmarkQuestion(id=name, key=name, benchmark="gsm8k", text=text, **values)


def sample(
    q: BenchmarkQuestion, index: int, status: str, tokens: int = 10, text: str = "", extracted: str | None = None,
    finish: str = "stop", error: str | None = None,
) -> Sample:  # fmt: skip
    text = text or f"{q.id} {index}"
    completion = Completion(q.id, index, text, finish, 5, tokens, index, error)  # type: ignore[arg-type]
    verdict = Verdict(status, extracted, "test", 0.0, "math", "1")  # type: ignore[arg-type]
    return Sample(q, q.prompt(index), completion, verdict)


def numbers(samples: Sequence[Sample], flagged_ids: set[str] | None = None, **settings: Any) -> dict[str, Any]:
    given = BenchmarkSettings(benchmarks=["gsm8k"], **settings)
    return score(load_benchmark("gsm8k"), given, "gsm8k", samples, flagged_ids)


A, B = question("a"), question("b")
FOUR = [
    sample(A, 0, "correct", 20, extracted="4"), sample(A, 1, "wrong", 40, extracted="5"),
    sample(B, 0, "correct", 100, extracted="4"), sample(B, 1, "truncated", 8192, finish="length"),
]  # fmt: skip


def test_accuracy_is_the_mean_over_questions_and_shares_are_of_replies() -> None:
    found = numbers(FOUR)
    assert (found["n"], found["k"], found["accuracy"]) == (2, 2, 0.5)
    assert found["pass_at"] == {"1": 0.5, "2": 1.0}
    assert (found["truncated"], found["no_answer"], found["unclosed"]) == (0.25, 0.0, 0.0)
    assert found["tokens"] == 8352
    assert found["lengths"]["max"] == 8192 and found["lengths"]["median"] == 70
    assert found["by_status"] == {"correct": 2, "wrong": 1, "truncated": 1}


def test_programs_have_no_majority_and_it_is_said_why() -> None:
    q = question(verifier="code", gold="")
    found = numbers([sample(q, i, "correct" if i else "wrong", extracted="print(1)") for i in range(3)])
    assert found["cons"] is None and "programs" in found["no_cons"] and found["pass_at"]["1"] == pytest.approx(2 / 3)
    assert numbers(FOUR)["cons"] is not None and numbers(FOUR)["no_cons"] is None


def test_without_the_truncated_ones_the_score_is_another() -> None:
    assert numbers(FOUR)["untruncated"]["accuracy"] == pytest.approx((0.5 + 1.0) / 2)


def test_accuracy_by_budget_cuts_the_same_samples() -> None:
    curve = {p["budget"]: p["accuracy"] for p in numbers(FOUR)["budget_curve"]}
    assert (curve[32], curve[64], curve[128], curve[8192]) == (0.25, 0.25, 0.5, 0.5)
    early = sample(A, 0, "correct", 50, finish="length")  # a closed box before the cut counts at the full budget
    assert budget_curve([[early]], 50)[-1]["accuracy"] == 1.0


def test_a_failure_of_ours_counts_neither_way() -> None:
    lost = sample(A, 2, "infra_error", 0, error="503")
    found = numbers([*FOUR, lost])
    assert (found["accuracy"], found["masked"]) == (0.5, 1)
    assert found["truncated"] == 0.25
    nothing = accuracy_of([[lost]])
    assert nothing["accuracy"] is None and nothing["unreliable"] == "nothing graded"


def test_samples_that_are_copies_are_counted() -> None:
    copies = [sample(A, i, "correct", text="the same") for i in range(3)] + [sample(B, i, "wrong") for i in range(3)]
    assert numbers(copies)["identical"] == 1
    assert numbers(FOUR)["identical"] == 0


def test_few_failures_are_said_to_be_too_few() -> None:
    right = [sample(question(str(i)), 0, "correct") for i in range(40)]
    assert numbers(right)["unreliable"] == "too few failures"
    assert numbers([sample(question(str(i)), 0, "wrong") for i in range(40)])["unreliable"] == "too few successes"
    assert (
        numbers([sample(question(str(i)), 0, "correct" if i % 2 else "wrong") for i in range(40)])["unreliable"]
        is None
    )


def test_the_majority_is_counted_by_equal_answers() -> None:
    votes = [sample(A, 0, "correct", extracted="4"), sample(A, 1, "wrong", extracted="5")]
    votes += [sample(A, 2, "wrong", extracted="6")]
    assert numbers(votes)["cons"] == pytest.approx(1 / 3)  # three answers tie
    halves = [sample(A, 0, "correct", extracted="4"), sample(A, 1, "wrong", extracted="1/2")]
    halves += [sample(A, 2, "wrong", extracted="0.5")]
    assert numbers(halves)["cons"] == 0.0  # 1/2 and 0.5 are one answer with two votes


def test_shuffled_choices_vote_for_the_choice_and_not_for_its_letter() -> None:
    q = question(verifier="choice", choices=("x", "y", "z", "w"), right=0, shuffled=True, gold="A",
                 template="{question}\n{choices}")  # fmt: skip
    prompts = [q.prompt(i) for i in range(3)]
    letters = ["ABCD"[p.info["choices"].index("y")] for p in prompts]
    wrong = [sample(q, i, "wrong", extracted=letter) for i, letter in enumerate(letters)]
    right = [sample(q, i + 3, "correct", extracted=str(q.prompt(i + 3).answer)) for i in range(2)]
    assert numbers([*wrong, *right])["cons"] == 0.0  # y has three votes under whichever letters, x two


def test_problems_that_stand_in_training_data_are_flagged(tmp_path: Path) -> None:
    text = "A train leaves Lyon at nine with 217 passengers and loses 13 at every stop; how many are left after six?"
    seen, unseen = question("seen", text), question("unseen", "What is the 41st prime that ends in the digit seven?")
    file = tmp_path / "sft.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "' + text + ' Think."}]}\n{"messages": []}\n')
    ids = flagged([seen, unseen], training_files([str(tmp_path)]))
    assert ids == {"seen"}
    found = numbers([sample(seen, 0, "correct"), sample(unseen, 0, "wrong")], ids)
    assert found["contamination"]["flagged"] == 1
    assert found["contamination"]["clean"]["accuracy"] == 0.0
    assert numbers(FOUR)["contamination"] is None


def test_training_data_that_is_not_there_or_has_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained_on: .*nowhere is no file"):
        training_files([str(tmp_path / "nowhere")])
    (tmp_path / "x.jsonl").write_text('{"number": 1}\n')
    with pytest.raises(UserError, match="trained_on: .*x.jsonl has none of the columns .*there is number"):
        flagged([A], training_files([str(tmp_path / "x.jsonl")]))


def test_the_second_grader_has_its_own_opinion_and_is_asked_about_math_only() -> None:
    right = Completion(A.id, 0, "so \\boxed{4}", "stop", 5, 5, 0)
    wrong = Completion(A.id, 1, "so \\boxed{5}", "stop", 5, 5, 1)
    graded = [Verdict("wrong", "4"), Verdict("wrong", "5")]
    assert second_opinions([A.prompt(), A.prompt()], [right, wrong], graded) == ["correct", "wrong"]
    assert disagrees("wrong", "correct") and disagrees("correct", "no_answer")
    assert not disagrees("wrong", "no_answer") and not disagrees("correct", None)
    assert not disagrees("timeout", "correct") and not disagrees("correct", "infra_error")
    other = question(verifier="exact")
    assert second_opinions([other.prompt()], [right], [Verdict("wrong", "4")]) == [None]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"benchmarks": ["champ"], "k": 4}, "champ: k is 4 at temperature 0"),
        ({"benchmarks": ["gsm8k"], "k": 2, "pass_at": [1, 8]}, "gsm8k: pass_at .8. needs k = 8, k is 2"),
        ({"benchmarks": ["gsm9k"]}, "benchmark 'gsm9k': there is none of this name; did you mean gsm8k"),
        ({"benchmarks": ["gsm8k", "gsm8k"]}, "benchmark gsm8k is named twice"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_asked(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        BenchmarkSettings(**settings)
