from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from openr1.engines.settings import SamplingSettings
from openr1.errors import UserError
from openr1.evaluate import SAMPLES_SCHEMA, sample_rows, summarise, wilson
from openr1.evaluate.consensus import cons_at_k, merge, same_by_verifier
from openr1.evaluate.settings import EvaluateSettings
from openr1.records import Completion, FinishReason, Prompt, Verdict, to_table
from openr1.verify import grade, grade_completions

PROMPTS = [
    Prompt(task="t", messages=[{"role": "user", "content": f"{i}/4?"}], answer=f"{i}/4", verifier="math")
    for i in range(4)
]
GOOD = "<think>hm</think>\n<answer>\\boxed{%s}</answer>"


def reply(i: int, text: str, sample: int = 0, finish: FinishReason = "stop") -> Completion:
    return Completion(PROMPTS[i].prompt_id, sample, text, finish, prompt_tokens=10, completion_tokens=5 + i, seed=1)


def judged(rows: list[Completion]) -> list[Verdict]:
    by_id = {p.prompt_id: p for p in PROMPTS}
    return grade([by_id[c.prompt_id].answer for c in rows], [c.text for c in rows], "math",
                 finish_reason=[c.finish_reason for c in rows])  # fmt: skip


def summary(completions: dict[str, list[Completion]], **more: Any) -> dict[str, Any]:
    verdicts = {mode: judged(rows) for mode, rows in completions.items()}
    return summarise(model="m", prompts=PROMPTS, completions=completions, verdicts=verdicts, **more)


GREEDY = [
    reply(0, GOOD % "0"),
    reply(1, "\\boxed{0.25}"),
    reply(2, ""),
    reply(3, "<think>" + "3/4 " * 5, finish="length"),
]
SAMPLED = [
    reply(i, GOOD % answer, sample=s)
    for i, answers in enumerate((["0", "0", "1", "2"], ["1/4", "4", "4", "4"], ["1/2", "0.50", "2", "3"], ["1"] * 4))
    for s, answer in enumerate(answers)
]


def test_the_numbers_of_an_evaluation() -> None:
    out = summary({"greedy": GREEDY, "sampled": SAMPLED}, parameters=100, seconds=2.5)
    interval = wilson(2, 4)
    assert out["model"] == "m"
    greedy = {"accuracy": 0.5, "low": interval.low, "high": interval.high, "n": 4}
    assert out["greedy"].items() >= greedy.items()
    assert out["sampled"]["accuracy"] == 5 / 16 and (out["sampled"]["n"], out["sampled"]["k"]) == (4, 4)
    assert 0 <= out["sampled"]["low"] < out["sampled"]["low_resampling"] < 5 / 16 < out["sampled"]["high_resampling"]
    # pass@2: (1 - C(2,2)/C(4,2)) for 2 of 4 = 5/6, twice; 1/2 for 1 of 4; 0
    assert out["pass_at"] == {"1": 5 / 16, "2": pytest.approx((5 / 6 + 1 / 2 + 5 / 6) / 4), "4": 3 / 4}
    assert out["cons"] == 2 / 4
    assert (out["format"], out["truncated"], out["no_answer"]) == (0.25, 0.25, 0.25)
    assert out["response_tokens"] == 6.5
    tokens = sum(c.completion_tokens for c in GREEDY + SAMPLED)
    assert out["tokens"] == tokens and out["flops"] == 2 * 100 * (tokens + 10 * 20) and out["seconds"] == 2.5
    assert out["by_status"] == {"wrong": 11, "correct": 7, "no_answer": 1, "truncated": 1}
    assert out["verifier"].startswith("math/")
    json.dumps(out)


def test_replies_are_counted_in_each_mode() -> None:
    cut = [reply(i, "<think>" + "3/4 " * 5, sample=s, finish="length") for i in range(4) for s in range(2)]
    out = summary({"greedy": GREEDY[:3], "sampled": SAMPLED[:8] + cut[4:]})
    keys = ("truncated", "no_answer", "format", "response_tokens")
    assert [out["greedy"][k] for k in keys] == [out[k] for k in keys] == [0.0, 1 / 3, 1 / 3, 6.0]
    assert [out["sampled"][k] for k in keys] == [4 / 12, 0.0, 8 / 12, (4 * 5 + 4 * 6 + 2 * 7 + 2 * 8) / 12]
    alone = summary({"sampled": cut})
    assert alone["truncated"] == alone["sampled"]["truncated"] == 1.0


def test_the_form_that_is_counted_is_growth() -> None:
    """The same completions serve: another form asks no model again."""
    strict, native = (
        EvaluateSettings(k=0, sampling=SamplingSettings(temperature=1.0, max_new_tokens=8), **form)
        for form in ({}, {"format": "native"})
    )
    assert strict.identity() == native.identity() and strict.growth() != native.growth()


def test_one_mode_alone() -> None:
    greedy, sampled = summary({"greedy": GREEDY}), summary({"sampled": SAMPLED}, pass_at=[1, 4, 64], cons=False)
    assert "sampled" not in greedy and "pass_at" not in greedy and greedy["flops"] is None
    assert "greedy" not in sampled and sampled["format"] == 1.0 and sampled["cons"] is None
    assert list(sampled["pass_at"]) == ["1", "4"]
    assert greedy["prompt_hash"] == sampled["prompt_hash"]
    native = summary({"greedy": [reply(0, "<think>hm</think>\\boxed{0}")]}, native=True)
    assert native["format"] == 1.0
    one = summary({"sampled": SAMPLED[:1]})
    assert one["sampled"]["low_resampling"] is None and one["cons"] is None


def test_a_failure_of_ours_is_not_the_models_fault() -> None:
    ours = Verdict("infra_error", verifier="math", version="1")
    verdicts = judged(GREEDY[:2]) + [ours, ours]
    out = summarise(model="m", prompts=PROMPTS, completions={"greedy": GREEDY}, verdicts={"greedy": verdicts})
    assert (out["greedy"]["accuracy"], out["greedy"]["n"]) == (1.0, 2)
    assert out["by_status"] == {"correct": 2, "infra_error": 2}
    with pytest.raises(UserError, match="not one completion could be graded .*infra_error': 4"):
        summarise(model="m", prompts=PROMPTS, completions={"greedy": GREEDY}, verdicts={"greedy": [ours] * 4})


def test_a_request_that_failed_for_good_is_no_reply() -> None:
    failed = Completion(PROMPTS[2].prompt_id, 0, "", "error", 0, 0, 1, error="HTTP 400: too long")
    rows = [*GREEDY[:2], failed]
    verdicts = grade_completions(PROMPTS[:3], rows)
    out = summarise(model="m", prompts=PROMPTS, completions={"greedy": rows}, verdicts={"greedy": verdicts})
    assert (out["greedy"]["accuracy"], out["greedy"]["n"]) == (1.0, 2)
    assert (out["format"], out["response_tokens"], out["no_answer"]) == (0.5, 5.5, 0.0)
    assert out["by_status"] == {"correct": 2, "infra_error": 1}


def test_what_does_not_fit_together() -> None:
    def ask(completions: Any, verdicts: Any) -> None:
        summarise(model="m", prompts=PROMPTS[:3], completions=completions, verdicts=verdicts)

    v = judged(GREEDY)
    for completions, verdicts, message in (
        ({}, {}, "no completions"),
        ({"gready": GREEDY}, {"gready": v}, "no mode gready"),
        ({"greedy": GREEDY[:3]}, {"greedy": v}, "3 greedy completions, but 4 verdicts"),
        ({"greedy": GREEDY}, {"greedy": v}, "1 greedy completions belong to no prompt"),
        ({"greedy": GREEDY[:1] * 2}, {"greedy": v[:1] * 2}, "there twice"),
    ):
        with pytest.raises(UserError, match=message):
            ask(completions, verdicts)


def test_samples_in_the_prompts_order() -> None:
    completions = {"sampled": SAMPLED[::-1], "greedy": GREEDY[::-1]}
    rows = list(sample_rows(PROMPTS, completions, {m: judged(r) for m, r in completions.items()}))
    table = to_table(rows, SAMPLES_SCHEMA)
    assert table.num_rows == 20 and table.column("mode").to_pylist() == ["greedy"] * 4 + ["sampled"] * 16
    assert table.column("question").to_pylist()[:4] == [p.question for p in PROMPTS]
    assert table.column("sample_index").to_pylist()[4:8] == [0, 1, 2, 3]
    assert table.column("score").to_pylist()[:2] == [1.0, 1.0]
    assert not {"seconds", "finished_at", "ms"} & set(table.column_names)


# -------------------------------------------------------------------------------------------------------- consensus
def verdicts(*answers: str | None) -> list[Verdict]:
    """`+` before an answer marks it correct."""
    out = []
    for a in answers:
        status: Any = "no_answer" if a is None else "correct" if a.startswith("+") else "wrong"
        out.append(Verdict(status, extracted=a.lstrip("+") if a else None))
    return out


def test_cons_is_a_vote_over_answers_not_over_right_and_wrong() -> None:
    def cons(*answers: str | None) -> float | None:
        return cons_at_k([verdicts(*answers)], [None])

    assert cons("+7", "+7", "3", "4", "5") == 1.0  # two of five are right, and they are the majority
    assert cons("+7", "+7", "3", "3", "3") == 0.0
    assert cons("+7", "3") == 0.5 and cons("+7", "3", "4") == pytest.approx(1 / 3)
    assert cons(None, None, None, "+7") == 1.0 and cons(None, None) == 0.0
    assert cons_at_k([verdicts("+1"), [Verdict("bad_gold")] * 2], [None, None]) == 1.0
    assert cons_at_k([[Verdict("infra_error")]], [None]) is None


def test_equivalent_wrong_answers_vote_together() -> None:
    prompt = Prompt(task="t", messages=[{"role": "user", "content": "q"}], answer="7", verifier="math")
    same = same_by_verifier(prompt)
    assert same is not None
    assert merge(Counter({"1/2": 2, "0.5": 1, "\\frac{2}{4}": 1, "3": 1}), same) == {"1/2": 4, "3": 1}
    sample = verdicts("+7", "+7", "1/2", "0.5", "\\frac12")
    assert cons_at_k([sample], [None]) == 1.0 and cons_at_k([sample], [same]) == 0.0
    countdown = Prompt(task="c", messages=prompt.messages, answer=None, verifier="expression")
    assert same_by_verifier(countdown) is None


# ------------------------------------------------------------------------------------------- reflection and language
def test_reflection_and_language_are_of_the_sampled_replies_where_there_are_any() -> None:
    texts = [
        "<think>7+8=16;wait7+8=15</think>15",
        "<think>so 所 so 所</think>15",
        "<think>7+8=15</think>wait",
        "no tags, the waiter",
    ]
    greedy = [reply(i, text) for i, text in enumerate(texts)]
    other = [reply(0, "<think>nothing</think>", sample=i) for i in range(4)]
    out = summary({"greedy": other[:1], "sampled": greedy}, reflection_words=["Wait", "等"], language="en",
                  language_by="script")  # fmt: skip
    assert out["reflection"] == {"share": 0.5, "n": 4, "words": ["Wait", "等"]}
    assert out["language"] == {
        "share": 0.75, "mixed": 0.5, "n": 2, "without_words": 2, "language": "en", "by": "script",
    }  # fmt: skip
    plain = summary({"greedy": greedy})
    assert "reflection" not in plain and "language" not in plain
    none = summary({"greedy": greedy[2:]}, language="en")["language"]
    assert (none["share"], none["n"], none["without_words"]) == (None, 0, 2)
