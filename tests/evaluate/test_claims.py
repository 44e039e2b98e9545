"""Claims judged from samples, against numbers worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openr1.evaluate.claims import Measured, judge, per_question
from openr1.evaluate.settings import ClaimSettings


def claim(metric: Any = "greedy", **more: Any) -> ClaimSettings:
    return ClaimSettings(id="c", claim="up", source="section 2", higher="after", lower="before", metric=metric, **more)


def rows(
    statuses: str, mode: str = "greedy", text: str = "<think>a</think><answer>1</answer>"
) -> list[dict[str, Any]]:
    """One question a word, one sample a letter: + correct, - wrong, m masked."""
    names = {"+": "correct", "-": "wrong", "m": "infra_error"}
    return [
        {"prompt_id": f"p{q}", "mode": mode, "sample_index": i, "completion": text, "completion_tokens": 10 + q,
         "status": names[s]}
        for q, samples in enumerate(statuses.split()) for i, s in enumerate(samples)
    ]  # fmt: skip


def test_a_claim_that_came_out_holds_both_numbers_and_the_paired_difference() -> None:
    found = judge(claim(), Measured("after", rows("+ " * 40)), Measured("before", rows("+ " * 10 + "- " * 30)))
    assert found["verdict"] == "came out" and found["reason"] is None
    assert found["higher"]["value"] == 1.0 and found["lower"]["value"] == 0.25 and found["lower"]["n"] == 40
    assert found["difference"]["value"] == 0.75 and found["difference"]["low"] > 0.6
    assert found["intervals_overlap"] is False
    json.dumps(found)


def test_the_opposite_and_what_cannot_be_told() -> None:
    up, down = rows("+ " * 40), rows("+ " * 10 + "- " * 30)
    assert judge(claim(), Measured("after", down), Measured("before", up))["verdict"] == "the opposite"
    nearly = rows("- " + "+ " * 39)
    found = judge(claim(), Measured("after", up), Measured("before", nearly))
    assert found["verdict"] == "cannot tell" and found["intervals_overlap"] is True
    assert found["difference"]["low"] < 0 < found["difference"]["detectable"]


def test_pairing_finds_what_two_separate_intervals_hide() -> None:
    """The same easy and hard questions on both sides; 8 of 100 change, all in one direction."""
    before = rows("+ " * 50 + "- " * 50)
    after = rows("+ " * 58 + "- " * 42)
    found = judge(claim(), Measured("after", after), Measured("before", before))
    assert found["verdict"] == "came out" and found["intervals_overlap"] is True


def test_samples_of_a_question_are_one_value() -> None:
    after = Measured("after", rows("++++ +++- ----", mode="sampled"))
    assert per_question(after, "sampled") == {"p0": [1, 1, 1, 1], "p1": [1, 1, 1, 0], "p2": [0, 0, 0, 0]}
    found = judge(claim("sampled"), after, Measured("before", rows("++-- +--- ----", mode="sampled")))
    assert found["difference"]["n"] == 3 and found["higher"]["k"] == 4
    assert found["difference"]["value"] == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_different_prompts_are_not_compared() -> None:
    found = judge(claim(), Measured("after", rows("+ + +")), Measured("before", rows("- -")))
    assert found["verdict"] == "cannot tell" and found["difference"] is None
    assert "different questions (2 shared of 3 and 2)" in found["reason"]
    none = judge(claim("sampled"), Measured("after", rows("+ +")), Measured("before", rows("- -")))
    assert "no sample of after has a value of sampled" in none["reason"]


def test_a_failure_of_ours_leaves_its_question_out() -> None:
    found = judge(claim(), Measured("after", rows("+ + + m")), Measured("before", rows("- + m +")))
    assert found["difference"]["n"] == 2 and found["higher"]["n"] == 3


def test_other_metrics_come_from_the_texts() -> None:
    plain = rows("+ + + -", text="12")
    thinking = rows("+ + + -", text="<think>7+8=16;wait7+8=15 so</think><answer>15</answer>")
    mixed = rows("+ + + -", text="<think>7+8=16;wait 等 所</think><answer>15</answer>")
    words = {"reflection_words": ["wait"], "language": "en", "language_by": "script"}
    a, b, c = (Measured("after", thinking, **words), Measured("before", plain, **words), Measured("b", mixed, **words))  # type: ignore[arg-type]
    assert judge(claim("format"), a, b)["difference"]["value"] == 1.0
    assert judge(claim("reflection"), a, b)["verdict"] == "came out"
    assert judge(claim("language"), a, c)["difference"]["value"] == pytest.approx(2 / 3)
    assert "no sample of before has a value of language" in judge(claim("language"), a, b)["reason"]
    assert "set its `language`" in judge(claim("language"), Measured("after", thinking), b)["reason"]
    assert "set its `reflection_words`" in judge(claim("reflection"), Measured("after", thinking), b)["reason"]
    tokens = judge(claim("response_tokens"), a, b)
    assert tokens["difference"]["value"] == 0 and tokens["higher"]["value"] == 11.5
    assert tokens["verdict"] == "cannot tell"
