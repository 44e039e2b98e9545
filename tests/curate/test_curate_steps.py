"""Each step: what it keeps, what it drops and the reason that it gives."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_helpers import DEFAULT_STEPS, Data, curated, prompt
from pydantic import ValidationError

from openr1.curate.choose import Select
from openr1.curate.duplicates import NearDedup, bands_for, minhash
from openr1.curate.rows import PromptBatch, Row
from openr1.curate.settings import CurateSettings, NearDedupStep, SelectStep
from openr1.errors import UserError
from openr1.records import Prompt

GOOD = "<think>one and one</think>\n<answer>2</answer>"


def reasons(tmp_path: Path, answers: list[tuple[Any, ...]], *steps: dict[str, Any]) -> list[str | None]:
    """Why each of the answers of one prompt went; None for those that stayed."""
    data = Data()
    one = data.add(prompt("1 + 1"), *answers)
    data.add(prompt("stays"), (GOOD, "correct"))
    found = curated(tmp_path, data, steps).reasons()
    return [found.get((one.prompt_id, i)) for i in range(len(answers))]


def test_failures_of_ours_have_reasons_of_their_own(tmp_path: Path) -> None:
    answers = [
        ("", "error", "error"),
        ("2", "infra_error"),
        ("2", "bad_gold"),
        ("3", "wrong"),
        ("x", "no_answer"),
        ("2", "correct", "length"),
        ("2", "correct"),
    ]
    assert reasons(tmp_path, answers, {"step": "graded"}, {"step": "correct"}) == [
        "request failed",
        "not graded: infra_error",
        "not graded: bad_gold",
        "wrong",
        "no_answer",
        "cut at the token limit",
        None,
    ]
    assert reasons(tmp_path, answers, {"step": "correct", "complete": False})[-2:] == [None, None]


def test_forms(tmp_path: Path) -> None:
    native = "<think>one and one</think>\nIt is 2."
    answers = [(GOOD, "correct"), (native, "correct"), ("2", "correct")]
    assert reasons(tmp_path, answers, {"step": "format", "form": "strict"}) == [None, *["not of the strict form"] * 2]
    assert reasons(tmp_path, answers, {"step": "format", "form": "native"}) == [None, None, "not of the native form"]


def test_languages_of_completions_and_of_questions(tmp_path: Path) -> None:
    english, chinese = "We add the two numbers and so we get the answer.", "我们把这两个数字加起来得到答案。"
    answers = [(english, "correct"), (chinese, "correct"), ("$1+1=2$", "correct")]
    assert reasons(tmp_path, answers, {"step": "language", "language": "en"}) == [None, "not in en", None]
    data = Data()
    data.add(prompt(english), (GOOD, "correct"))
    foreign = data.add(prompt(chinese), (GOOD, "correct"))
    out = curated(tmp_path, data, [{"step": "language", "language": "en", "of": "question"}])
    assert out.reasons("prompt") == {foreign.prompt_id: "question not in en"}
    assert out.reasons() == {(foreign.prompt_id, 0): "question not in en"}


def test_lengths(tmp_path: Path) -> None:
    answers = [("a " * n, "correct") for n in (1, 5, 9)]
    found = reasons(tmp_path, answers, {"step": "length", "min_tokens": 2, "max_tokens": 8})
    assert found == ["under 2 tokens", None, "over 8 tokens"]
    assert reasons(tmp_path, answers, {"step": "length", "max_chars": 10})[2] == "over 10 characters"
    data = Data()
    short = data.add(prompt("1+1"), (GOOD, "correct"))
    data.add(prompt("What is 1 + 1?"), (GOOD, "correct"))
    out = curated(tmp_path, data, [{"step": "length", "of": "question", "min_chars": 5}])
    assert out.reasons("prompt") == {short.prompt_id: "under 5 characters in the question"}


def test_repetition_sees_loops_of_words_and_of_digits(tmp_path: Path) -> None:
    words, digits = "so we wait and see " * 30, "0.142857" + "142857" * 40
    plain = "First one, then two; the sum of both of them is three, which nobody doubts."
    answers = [(words, "correct"), (digits, "correct"), (plain, "correct")]
    step = {"step": "repetition", "ngram_size": 5, "max_share": 0.5}
    assert reasons(tmp_path, answers, step) == ["repeats itself", None, None]
    found = reasons(tmp_path, answers, {**step, "grams_of": "characters"})
    assert found == ["repeats itself", "repeats itself", None]


def test_equal_texts_of_a_prompt(tmp_path: Path) -> None:
    answers = [("a", "correct"), ("b", "correct"), ("a", "correct")]
    assert reasons(tmp_path, answers, {"step": "same_text"}) == [None, None, "same text as another sample"]


def test_select_takes_the_shortest_or_a_seeded_draw(tmp_path: Path) -> None:
    data = Data()
    many = [data.add(prompt(f"what is {n}?"), *((f"x{i} " * (5 - i), "correct") for i in range(4))) for n in range(30)]
    shortest = curated(tmp_path / "a", data, [{"step": "select", "per_prompt": 2}])
    assert {i for _, i in shortest.chosen()} == {2, 3} and len(shortest.chosen()) == 60
    drawn = [
        sorted(curated(tmp_path / "b", data, [{"step": "select", "per_prompt": 1, "by": "random"}], seed=s).chosen())
        for s in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(Counter(i for _, i in drawn[0])) == 4 and len(drawn[0]) == len(many)


def test_select_diverse_takes_texts_that_are_far_apart() -> None:
    texts = ["a b c d e", "a b c d e f", "a b c d e f g", "u v w x y z q r s", "a b c d e f g h"]
    rows = [Row("p", i, t, "stop", len(t.split()), None, "correct", i) for i, t in enumerate(texts)]
    step = Select(SelectStep(step="select", per_prompt=2, by="diverse"))
    kept, dropped = step(rows)
    assert [r.sample_index for r in kept] == [0, 3]
    assert {d.reason for _, d in dropped} == {"more than 2 of the prompt"}


# ------------------------------------------------------------------------------------------------------ duplicates
def test_exact_duplicates_keep_the_smallest_id_and_name_it(tmp_path: Path) -> None:
    data = Data()
    same = [data.add(prompt(q), (GOOD, "correct")) for q in ("What is $x + y$?", "what is  x+y", "What is $x+y$")]
    data.add(prompt("What is $x - y$?"), (GOOD, "correct"))
    kept = min(p.prompt_id for p in same)
    out = curated(tmp_path, data, [{"step": "exact_dedup"}])
    gone = {p.prompt_id: "same question as another prompt" for p in same if p.prompt_id != kept}
    assert out.reasons("prompt") == gone
    assert {key[0]: reason for key, reason in out.reasons().items()} == gone
    assert {r["detail"] for r in out.rows("dropped")} == {kept}
    assert out.result.results["funnel"] == [
        {"step": "exact_dedup", "unit": unit, "in": 4, "out": 2, "dropped": {"same question as another prompt": 2}}
        for unit in ("prompt", "completion")
    ]


def test_conversations_that_end_alike_are_no_duplicates(tmp_path: Path) -> None:
    data = Data()
    for topic in ("What is 1 + 1?", "What is 5 * 7?"):
        turns = [(topic, "user"), ("Let us see.", "assistant"), ("Go on.", "user")]
        messages: list[Any] = [{"role": role, "content": text} for text, role in turns]
        data.add(Prompt("sum", messages, "2", "math"), (GOOD, "correct"))
    out = curated(tmp_path, data, [{"step": "exact_dedup"}, {"step": "near_dedup"}])
    assert len(out.rows("rl")) == 2 and {r["problem"] for r in out.rows("sft")} == {"Go on."}


def sentence(rng: random.Random, words: int = 40) -> str:
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(words))


def near_drops(questions: dict[str, str], **settings: Any) -> dict[str, str | None]:
    """{id: the id that was kept instead}, the stream handed over in batches of seven."""
    ids = list(questions)
    batches = [PromptBatch(ids[i : i + 7], [questions[j] for j in ids[i : i + 7]]) for i in range(0, len(ids), 7)]
    step = NearDedup(NearDedupStep(step="near_dedup", **settings))
    drops = [d for found in step(batches) for d in found]
    return {i: d.detail for i, d in zip(ids, drops, strict=True) if d is not None}


def test_near_duplicates_are_found_and_others_are_not() -> None:
    rng = random.Random(5)
    questions: dict[str, str] = {}
    copies: dict[str, str] = {}
    for n in range(200):
        words = sentence(rng).split()
        questions[f"{n:03d}a"] = " ".join(words)
        if n % 2:
            words[rng.randrange(len(words))] = "other"
            questions[f"{n:03d}b"] = " ".join(words)
            copies[f"{n:03d}b"] = f"{n:03d}a"
    order = list(questions)
    rng.shuffle(order)
    assert near_drops({i: questions[i] for i in order}) == copies
    assert near_drops({i: questions[i] for i in sorted(order)}, threshold=1.0) == {}


def test_a_cluster_of_near_duplicates_keeps_one() -> None:
    rng = random.Random(6)
    words = sentence(rng, 60).split()
    chain = {}
    for n in range(30):  # each differs a little from the one before, the last a lot from the first
        words[n] = sentence(rng, 1)
        chain[f"{n:02d}"] = " ".join(words)
    assert near_drops(chain) == {i: "00" for i in list(chain)[1:]}


def test_signatures_estimate_the_jaccard_similarity() -> None:
    rng = random.Random(7)
    errors = []
    for _ in range(60):
        words = sentence(rng).split()
        other = list(words)
        for _ in range(rng.randint(1, 10)):
            other[rng.randrange(len(other))] = sentence(rng, 1)
        texts = [" ".join(words), " ".join(other)]
        a, b = ({t[i : i + 5] for i in range(len(t) - 4)} for t in texts)
        first, second = minhash(texts, 5, 256, 1)
        errors.append(float((first == second).mean()) - len(a & b) / len(a | b))
    assert abs(np.mean(errors)) < 0.02 and np.std(errors) < 0.06


@pytest.mark.parametrize("texts", [["", "", "a"], ["ab", "ab", "abc"], ["零一", "零一", "零一二三四五"]])
def test_texts_shorter_than_a_shingle_equal_only_themselves(texts: list[str]) -> None:
    a, b, c = minhash(texts, 5, 64, 1)
    assert (a == b).all() and (a == c).mean() < 0.5


def test_bands_bring_pairs_at_the_threshold_together() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9):
        rows = bands_for(threshold, 128)
        assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.99


# ------------------------------------------------------------------------------------------------- mix, split, rates
def two_sources(n: int = 60) -> Data:
    data = Data()
    for i in range(n):
        data.add(
            prompt(f"what is {i}?", "easy" if i % 3 else "hard", level=str(i % 2)), (GOOD, "correct"), ("2", "correct")
        )
    return data


def test_mix_brings_sources_to_their_shares(tmp_path: Path) -> None:
    data = two_sources()
    task = {p.prompt_id: p.task for p in data.prompts}
    step = {"step": "mix", "weights": {"easy": 1, "hard": 1}}
    out = curated(tmp_path / "a", data, [step], seed=1)
    assert Counter(task[i] for i, _ in out.chosen()) == {"easy": 40, "hard": 40}
    assert set(out.reasons().values()) == {"over the share of easy"} and len(out.rows("rl")) == 60
    again = curated(tmp_path / "b", data, [step], seed=2)
    assert sorted(again.chosen()) != sorted(out.chosen())
    sized = curated(tmp_path / "c", data, [{**step, "of": "prompt", "size": 9, "weights": {"easy": 2, "hard": 1}}])
    assert Counter(r["task"] for r in sized.rows("rl")) == {"easy": 6, "hard": 3} and len(sized.chosen()) == 18


def test_mix_by_metadata_and_with_sources_that_have_no_weight(tmp_path: Path) -> None:
    data = two_sources()
    step = {"step": "mix", "source": "level", "weights": {"1": 1}}
    assert set(curated(tmp_path / "a", data, [step]).reasons().values()) == {"of a source without a weight: 0"}
    assert curated(tmp_path / "b", data, [{**step, "others": "keep"}]).reasons() == {}
    with pytest.raises(UserError, match=r"step mix: no prompt has task 'eassy'; did you mean easy"):
        curated(tmp_path / "c", data, [{"step": "mix", "weights": {"eassy": 1}}])


def test_split_keeps_a_prompt_on_one_side_and_in_its_place(tmp_path: Path) -> None:
    data = two_sources(200)
    step = {"step": "split", "parts": {"test": 0.1, "dev": 0.2}}
    out = curated(tmp_path / "a", data, [step])
    sides = {name: {r["prompt_id"] for r in out.rows(name)} for name in ("sft", "sft_test", "sft_dev")}
    assert sum(map(len, sides.values())) == 200 and set().union(*sides.values()) == {p.prompt_id for p in data.prompts}
    assert 8 <= len(sides["sft_test"]) <= 35 and 22 <= len(sides["sft_dev"]) <= 60
    assert {r["prompt_id"] for r in out.rows("rl_test")} == sides["sft_test"]
    assert {r["prompt_id"] for r in out.rows("all") if r["split"] == "dev"} == sides["sft_dev"]
    data.prompts = data.prompts[:150]
    fewer = curated(tmp_path / "b", data, [step])
    assert {r["prompt_id"] for r in fewer.rows("sft_test")} <= sides["sft_test"]
    assert {name: out.result.outputs[name].kind for name in ("sft_test", "rl_dev")} == {
        "sft_test": "sft",
        "rl_dev": "rl",
    }


def test_pass_rate_leaves_the_sft_set_alone(tmp_path: Path) -> None:
    data = Data()
    always = data.add(prompt("1"), ("a", "correct"), ("b", "correct"))
    half = data.add(prompt("2"), ("a", "correct"), ("b", "wrong"), ("c", "infra_error"))
    never = data.add(prompt("3"), ("a", "bad_gold"))
    out = curated(tmp_path, data, [{"step": "correct"}, {"step": "pass_rate", "low": 0.1, "high": 0.9}])
    assert [(r["prompt_id"], r["pass_rate"]) for r in out.rows("rl")] == [(half.prompt_id, 0.5)]
    assert out.reasons("prompt") == {
        always.prompt_id: "pass rate outside 0.1–0.9",
        never.prompt_id: "no graded sample",
    }
    assert sorted(out.chosen()) == sorted([(always.prompt_id, 0), (always.prompt_id, 1), (half.prompt_id, 0)])


# --------------------------------------------------------------------------------------------------------- settings
SELECT, CORRECT = {"step": "select", "per_prompt": 1}, {"step": "correct"}


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "at least 1 item"),
        ([CORRECT, CORRECT], "step correct stands there 2 times; once is enough"),
        ([{"step": "language"}, {"step": "language"}], "step language stands there twice with the same settings"),
        ([SELECT, CORRECT], "step correct stands after select, which would have chosen among rows that it drops"),
        ([{"step": "mix", "weights": {"a": 1}}, SELECT], "step select stands after mix and would change its shares"),
        ([{"step": "length"}], "length sets no bound; set min_tokens"),
        ([{"step": "length", "min_tokens": 5, "max_tokens": 4}], "length keeps nothing"),
        ([{"step": "length", "of": "question", "max_tokens": 4}], "a question is measured in characters"),
        ([{"step": "pass_rate", "low": 0.9, "high": 0.1}], "low is 0.9 and high is 0.1; exchange them"),
        ([{"step": "language", "language": "eng"}], "unknown language 'eng'"),
        ([{"step": "split", "parts": {"a": 0.5, "b": 0.5}}], "leave some for sft and rl"),
        ([{"step": "split", "parts": {"a/b": 0.5}}], "'a/b' is no name of a part"),
    ],
)
def test_senseless_steps_are_refused_in_a_line(steps: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CurateSettings.model_validate({"steps": steps})
    assert says in str(caught.value) and caught.value.error_count() == 1


def test_steps_that_make_sense_together() -> None:
    steps = [
        {"step": "exact_dedup"},
        {"step": "near_dedup"},
        *DEFAULT_STEPS,
        {"step": "mix", "weights": {"a": 1}},
        {"step": "mix", "weights": {"x": 1}, "source": "level"},
        {"step": "split", "parts": {"test": 0.1}},
    ]
    with pytest.raises(ValidationError, match="step mix stands there 2 times"):
        CurateSettings.model_validate({"steps": steps})
    assert CurateSettings.model_validate({"steps": [*steps[:-2], steps[-1]]}).parts() == ["test"]


def test_steps_say_which_inputs_they_lack(tmp_path: Path) -> None:
    data = Data(prompts=[prompt("1 + 1")])
    with pytest.raises(ValidationError, match="step correct needs the input completions and verdicts; connect it"):
        curated(tmp_path, data, [CORRECT], inputs=["data"])
    with pytest.raises(ValidationError, match="step pass_rate needs the input verdicts"):
        curated(tmp_path, data, [{"step": "pass_rate"}], inputs=["data", "completions"])
