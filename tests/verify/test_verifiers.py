"""The other verifiers: choice, exact, numeric, expression, reasoning_gym, judge, a user's own."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from openr1.errors import UserError
from openr1.records import Verdict
from openr1.verify import Verifier, clear_cache, get_verifier, grade, verifier_names
from openr1.verify.base import _BUILTIN, Decision, Info
from openr1.verify.judge import configure_judge
from openr1.verify.settings import JudgeSettings


def statuses(verifier: str, gold: Any, answers: list[str], info: dict[str, Any] | None = None) -> list[str]:
    texts = [f"<answer>{answer}</answer>" for answer in answers]
    return [v.status for v in grade([gold] * len(texts), texts, verifier, info=[info] * len(texts))]


def test_names_and_near_names() -> None:
    expected = {"math", "choice", "exact", "numeric", "expression", "reasoning_gym", "judge"}
    assert expected <= set(verifier_names())
    with pytest.raises(UserError, match="did you mean numeric"):
        get_verifier("numerc")
    with pytest.raises(UserError, match="cannot be imported"):
        get_verifier("no.such.module:thing")


@pytest.mark.parametrize("word", ["own_verifier:Mine", "mine"])
def test_a_class_is_known_by_the_word_that_it_was_asked_for(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openr1.verify.base._BUILTIN", {**_BUILTIN, "mine": "own_verifier:Mine"})
    right, wrong = grade(["1", "1"], [r"\boxed{1}", r"\boxed{2}"], word)
    assert (right.status, wrong.status, right.verifier) == ("correct", "wrong", word), right
    assert get_verifier(right.verifier).version == right.version
    assert get_verifier("math") is get_verifier("math")


def test_choice() -> None:
    right = [
        "B",
        "(B)",
        "b",
        "B.",
        "B) Paris",
        r"\text{(B)}",
        r"\textbf{(B) } Paris",
        "option B",
        "**B**",
        "The answer is B",
    ]
    wrong = ["C", "(A) Paris", "A or B", "AB", "", "Bath", "a train", "Paris", "B and C"]
    assert statuses("choice", "B", right) == ["correct"] * len(right)
    assert "correct" not in statuses("choice", "B", wrong)
    assert statuses("choice", "B. Paris", ["Paris", "B", "London"]) == ["correct", "correct", "wrong"]
    info = {"choices": ["London", "Paris"]}
    assert statuses("choice", "B", ["paris", "London"], info) == ["correct", "wrong"]
    assert statuses("choice", "Paris", ["B", "A"], info) == ["correct", "wrong"]
    assert statuses("choice", "A, C", ["C and A", "AC", "A", "A, B"]) == ["correct", "correct", "wrong", "wrong"]
    assert statuses("choice", "zebra", ["B"]) == statuses("choice", "C", ["B"], info) == ["bad_gold"]


def test_exact() -> None:
    assert statuses("exact", "Hello  World", ["Hello World", "hello world", "$Hello World$"]) == [
        "correct",
        "wrong",
        "correct",
    ]
    assert statuses("exact", "Hello", ["HELLO"], {"ignore_case": True}) == ["correct"]
    assert statuses("exact", None, ["x"]) == ["bad_gold"]


def test_numeric() -> None:
    assert statuses("numeric", "3.14", ["3.14", "3.15", r"\pi", "three", "1/0"], {"tolerance": 1e-2}) == [
        "correct",
        "correct",
        "correct",
        "wrong",
        "wrong",
    ]
    assert statuses("numeric", "3.14", [r"\pi", "3.140", "3.1400001", "3.141"]) == [
        "wrong",
        "correct",
        "correct",
        "wrong",
    ]
    assert statuses("numeric", "1,000", [r"10^3 \text{ m}", "1000.4"], {"absolute": 0.5}) == ["correct", "correct"]
    assert statuses("numeric", r"10\%", ["0.1", "10", "5 m"]) == ["correct", "correct", "wrong"]
    assert statuses("numeric", "5 cm", ["5 m", "5 cm", "5"]) == ["wrong", "correct", "correct"]
    assert statuses("numeric", "word", ["5"]) == ["bad_gold"]
    assert statuses("numeric", "5", ["5"], {"tolerance": -1}) == ["bad_gold"]


def test_expression_is_exact_and_uses_each_number_once() -> None:
    info = {"numbers": [3, 5, 2, 7], "target": 16}
    right = [
        "(3+5)*2",
        r"(3+5)\times 2",
        "(3 + 5) × 2 = 16",
        r"\boxed{2 \cdot (3+5)}",
        "2*(5+3)",
        r"$7\cdot2+5-3$",
        "3*7-5",
    ]
    wrong = [
        "8*2",
        "16",
        "3+5+2+7",
        "(3+5)*2 = 17",
        "3+3+3+7",
        "4**2",
        "(3+5)*2; import os",
        "(3+5",
        "",
        "3 5 2",
        "2*(3+5)*7/7/1",
    ]
    assert statuses("expression", None, right, info) == ["correct"] * len(right)
    assert set(statuses("expression", None, wrong, info)) <= {"wrong", "no_answer"}
    thirds = {"numbers": [8, 3, 8, 3], "target": 24}
    assert statuses("expression", None, ["8/(3-8/3)", "8/(3-2.6667)"], thirds) == ["correct", "wrong"]
    assert statuses("expression", None, ["7+5+3+2-1", "3*5+2-1"], {**info, "use_all": True}) == ["wrong", "wrong"]
    assert statuses("expression", None, ["1/0", "(" * 999, "1+" * 600 + "1"], info) == ["wrong", "wrong", "error"]
    assert statuses("expression", None, ["1"], {"numbers": "12", "target": 3}) == ["bad_gold"]
    assert statuses("expression", None, ["1"], None) == ["bad_gold"]


def entry(dataset: str) -> dict[str, Any]:
    import reasoning_gym

    item = reasoning_gym.create_dataset(dataset, size=1, seed=3)[0]
    return {"dataset": dataset, "entry": json.loads(json.dumps(item, default=str))}


def test_reasoning_gym_counts_only_a_full_score() -> None:
    clear_cache()
    info = entry("gcd")
    gold = info["entry"]["answer"]
    assert statuses("reasoning_gym", gold, [gold, f"it is {gold} or 99", str(int(gold) + 1)], info) == [
        "correct",
        "wrong",
        "wrong",
    ]
    sorting = entry("number_sorting")
    answer = sorting["entry"]["answer"]
    assert statuses("reasoning_gym", answer, [answer, f"so: {answer} I think"], sorting) == ["correct", "wrong"]
    as_text = {"dataset": "gcd", "entry": json.dumps(info["entry"])}
    assert statuses("reasoning_gym", None, [gold], as_text) == ["correct"]


def test_reasoning_gym_tasks_that_cannot_grade_are_masked() -> None:
    info = {"dataset": "game_of_life_halting", "entry": {"answer": "True"}}
    (verdict,) = grade(["True"], ["<answer>False</answer>"], "reasoning_gym", info=[info])
    assert verdict.status == "bad_gold" and "pays any answer" in (verdict.detail or "")
    assert statuses("reasoning_gym", "1", ["1"], None) == ["bad_gold"]


def shout(completion: str, gold: str, info: dict[str, Any]) -> bool:
    return gold.upper() in completion


def detailed(completion: str, gold: str, info: dict[str, Any]) -> Verdict:
    return Verdict("timeout", verifier="mine")


def confused(completion: str, gold: str, info: dict[str, Any]) -> str:
    return "yes"


class Even(Verifier):
    name = "even"

    def decide(self, answer: str, gold: list[str], info: Info) -> Decision:
        return Decision("correct" if int(answer) % 2 == 0 else "wrong", "even")


def test_a_users_own_verifier_by_import_path() -> None:
    assert [v.status for v in grade(["a", "b"], ["A!", "c"], f"{__name__}:shout")] == ["correct", "wrong"]
    assert grade(["a"], ["x"], f"{__name__}:detailed")[0].status == "timeout"
    mixed = grade(
        ["1", "1", "a"], [r"\boxed{4}", r"\boxed{1}", "A"], [f"{__name__}:Even", "math", f"{__name__}:shout"]
    )
    assert [v.status for v in mixed] == ["correct"] * 3 and [v.verifier for v in mixed][:2] == [
        f"{__name__}:Even",
        "math",
    ]
    with pytest.raises(UserError, match="must return a Verdict"):
        grade(["a"], ["x"], f"{__name__}:confused")


def test_one_completion_at_a_time() -> None:
    verdict = get_verifier("math").verify(r"<think>x</think>\boxed{\frac{2}{4}}", "1/2", finish_reason="stop")
    assert (verdict.status, verdict.score, verdict.extracted) == ("correct", 1.0, r"\frac{2}{4}")
    assert verdict.verifier == "math" and verdict.version and verdict.decided_by and verdict.ms >= 0


class _Judge(BaseHTTPRequestHandler):
    """A loopback server that speaks the protocol; the answer 'fail' makes it fail, 'mumble' makes it mumble."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.loads(body["messages"][1]["content"])
        if content["answer"] == "fail":
            self.send_error(503)
            return
        word = "hmm" if content["answer"] == "mumble" else "WRONG"
        word = "**CORRECT**." if content["answer"] in ("five", "5") else word
        reply = json.dumps({"choices": [{"message": {"content": word}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def judge() -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configure_judge(JudgeSettings(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", retries=0, timeout=5))
    yield
    configure_judge(None)
    server.shutdown()
    server.server_close()


def test_judge_grades_logs_disagreement_and_masks_its_own_failures(
    judge: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="openr1")
    logging.getLogger("openr1").propagate = True
    answers = [r"\boxed{five}", r"\boxed{5}", r"\boxed{6}", r"\boxed{fail}", r"\boxed{mumble}", "<think>x"]
    verdicts = grade(["5"] * 6, answers, "judge")
    assert [v.status for v in verdicts] == ["correct", "correct", "wrong", "infra_error", "infra_error", "no_answer"]
    assert verdicts[0].decided_by == "judge:m" and verdicts[3].score is None
    disagreements = [record for record in caplog.records if "disagree" in record.message]
    assert len(disagreements) == 1 and "five" in disagreements[0].message


def test_judge_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENR1_JUDGE_URL", raising=False)
    configure_judge(None)
    with pytest.raises(UserError, match="OPENR1_JUDGE_URL"):
        grade(["5"], [r"\boxed{5}"], "judge")


def test_a_users_function_that_raises_masks_its_row_and_spares_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_grader.py").write_text(
        "def halves(completion, gold, info):\n    return 4 / int(completion) == 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    verdicts = grade(gold=["2"] * 3, completion=["2", "0", "4"], verifier="my_grader:halves")
    assert [v.status for v in verdicts] == ["correct", "infra_error", "wrong"]
    assert verdicts[1].score is None and "ZeroDivisionError" in str(verdicts[1].detail)
