"""The audit: which golds cannot grade, and why; fast for many of them."""

from __future__ import annotations

import json
import time

from openr1.records import Prompt
from openr1.verify.audit import audit


def prompt(answer: str | None, verifier: str = "math", **info: object) -> Prompt:
    return Prompt(
        "t", [{"role": "user", "content": f"q {answer} {info}"}], answer, verifier, metadata=json.dumps(info)
    )


GOOD = [
    "42", r"\frac{1}{2}", "x+1", "Paris", r"\sqrt{2}", "(1,2)", r"\{1,2\}", r"10\%", "A", "no solution", "1,200",
    r"5 \text{ cm}", "x", r"[0,\infty)", r"\begin{pmatrix}1\\2\end{pmatrix}", "x^2+y^2=1", "12:30 PM", r"\pm 3", "3:4",
    r"\sin x", r"1 < x < 2", r"Thus \boxed{72}.", "6*12\n#### 72", r"\infty", r"\emptyset", "2516_8", "k = 3",
]  # fmt: skip


def test_good_golds_pass() -> None:
    assert audit([prompt(answer) for answer in GOOD]) == []


def test_bad_golds_are_named_with_reason_and_example() -> None:
    bad = [
        prompt(None), prompt(""), prompt("???"), prompt(r"\frac{1}{"), prompt("zebra", "choice"),
        prompt("x", "numeric"),
        prompt(None, "expression"), prompt("9+9", "expression", numbers=[1, 2], target=3),
        prompt("False", "reasoning_gym", dataset="game_of_life_halting", entry={"answer": "False"}),
    ]  # fmt: skip
    good = [prompt("1"), prompt("1+2", "expression", numbers=[1, 2], target=3)]
    found = audit([*good, *bad])
    assert [problem.prompt_id for problem in found] == [p.prompt_id for p in bad]
    reasons = " | ".join(problem.reason for problem in found)
    for expected in (
        "missing or empty",
        "no content",
        "do not balance",
        "names no letter",
        "is no number",
        "`numbers`",
    ):
        assert expected in reasons
    assert "rejects its own gold" in reasons and "pays any answer" in reasons
    assert all(problem.example for problem in found)


def accepts_all(completion: str, gold: str, info: dict) -> bool:
    return True


def test_a_verifier_that_accepts_a_mutated_answer_is_found() -> None:
    from openr1.verify import Verifier
    from openr1.verify.base import Decision, _instances

    class Lax(Verifier):
        name = "lax"

        def decide(self, answer: str, gold: list[str], info: dict) -> Decision:
            return Decision("correct", "lax")

    _instances["lax"] = Lax()
    try:
        (problem,) = audit([prompt("42", "lax")])
    finally:
        del _instances["lax"]
    assert problem.reason == "the verifier accepts a mutated answer" and "52" in problem.example


def test_thousands_of_integers_are_quick() -> None:
    prompts = [prompt(str(i)) for i in range(4000)]
    start = time.process_time()
    assert audit(prompts) == []
    assert time.process_time() - start < 3
