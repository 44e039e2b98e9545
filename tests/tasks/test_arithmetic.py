from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_helpers import HELD, build, operands, task

from openr1.errors import UserError
from openr1.tasks.arithmetic import Arithmetic
from openr1.tasks.settings import ArithmeticSettings
from openr1.tasks.traces import result, trace
from openr1.verify import grade

FORM = re.compile(r"\A<think>[^<>]+</think>\n<answer>\\boxed\{\d+\}</answer>\Z")
PHRASINGS = {
    "plain": {"template": "{expression}"},
    "question": {"template": "Q: {expression}"},
    "solve": {"template": "Solve {expression}", "weight": 2.0},
}
CORPUS = {
    "trace": {"plain": 0.15, "question": 0.35, "solve": 0.70},
    "modes": {"clean": 0.25, "forgotten": 0.42, "corrected": 0.33},
    "noise": 0.12,
    "wrong": 0.30,
}


def boxed(text: str) -> int:
    return int(re.findall(r"\\boxed\{(-?\d+)\}", text)[-1])


numbers = st.integers(0, 10**7)


@given(st.lists(numbers, min_size=2, max_size=12))
@settings(max_examples=200, deadline=None)
def test_sums_of_any_length_and_count(values: list[int]) -> None:
    clean, forgotten, corrected = (trace("add", values, mode) for mode in ("clean", "forgotten", "corrected"))
    assert FORM.match(clean) and FORM.match(forgotten) and FORM.match(corrected)
    assert boxed(clean) == boxed(corrected) == sum(values)
    assert ("wait" in corrected) == (corrected != clean)
    assert (boxed(forgotten) == sum(values)) == (forgotten == clean)
    assert "wait" not in clean + forgotten


@given(numbers, numbers)
@settings(max_examples=200, deadline=None)
def test_differences_and_products(x: int, y: int) -> None:
    a, b = max(x, y), min(x, y)
    for mode in ("clean", "corrected"):
        assert boxed(trace("sub", [a, b], mode)) == a - b
        assert boxed(trace("mul", [a, b], mode)) == a * b


@given(st.sampled_from(["add", "sub", "mul"]), st.integers(0, 10**5), st.integers(0, 10**5))
@settings(max_examples=200, deadline=None)
def test_every_step_of_a_clean_trace_is_true(operation: str, x: int, y: int) -> None:
    steps = trace(operation, sorted([x, y], reverse=True), "clean").split("<think>")[1].split("</think>")[0].split(";")
    for step in steps:
        left, right = step.split("=")
        assert eval(left) == int(right), step  # noqa: S307 - digits and signs only


def test_hand_written_traces() -> None:
    assert trace("add", [17, 8], "clean") == "<think>7+8+0=15;1+0+1=2</think>\n<answer>\\boxed{25}</answer>"
    assert trace("add", [17, 8], "forgotten") == "<think>7+8+0=15;1+0+0=1</think>\n<answer>\\boxed{15}</answer>"
    assert "7+8+0=15;1+0+0=1;wait1+0+1=2<" in trace("add", [17, 8], "corrected")
    assert trace("sub", [32, 17], "clean") == "<think>12-7-0=5;3-1-1=1</think>\n<answer>\\boxed{15}</answer>"
    assert boxed(trace("sub", [32, 17], "forgotten")) == 25


@pytest.mark.parametrize("operation", ["add", "sub", "mul"])
def test_every_clean_solution_is_correct_and_well_formed(operation: str) -> None:
    settings = task(
        name="arithmetic",
        digits=[1, 6],
        operation=operation,
        operands=[2, 5] if operation == "add" else [2, 2],
        same_length=False,
        phrasings=PHRASINGS,
    )
    prompts = build(settings, train={"size": 300}).splits["train"]
    assert all(FORM.match(p.solution or "") for p in prompts)
    verdicts = grade([p.answer for p in prompts], [p.solution or "" for p in prompts], "math")
    assert Counter(v.status for v in verdicts) == {"correct": 300}
    assert all(p.answer == str(result(operation, p.info["operands"])) for p in prompts)


def test_one_block_gives_corpus_cold_start_and_held_out_sets() -> None:
    settings = task(name="arithmetic", digits=[2, 3], phrasings=PHRASINGS, mixtures={"corpus": CORPUS, "clean": {}})
    splits = build(
        settings,
        base={"size": 12000, "mixture": "corpus", "repeats": True},
        cold_start={"size": 300, "mixture": "clean"},
        rl={"size": 2000},
        test=HELD | {"size": 512},
        out_of_range=HELD | {"size": 512, "overrides": {"digits": [4, 4]}},
    ).splits
    assert {name: len(rows) for name, rows in splits.items()} == {
        "base": 12000, "cold_start": 300, "rl": 2000, "test": 512, "out_of_range": 512
    }  # fmt: skip
    held = operands(splits["test"]) | operands(splits["out_of_range"])
    assert len(held) == 1024
    for name in ("base", "cold_start", "rl"):
        assert not operands(splits[name]) & held
    assert len(operands(splits["rl"])) == 2000
    assert {len(str(n)) for p in splits["out_of_range"] for n in p.info["operands"]} == {4}

    kinds = {name: Counter[str]() for name in PHRASINGS}
    for p in splits["base"]:
        kinds[p.info["phrasing"]][p.info["solution"]] += 1
    for name, chance in (("plain", 0.15), ("question", 0.35), ("solve", 0.70)):
        seen, n = kinds[name], sum(kinds[name].values())
        assert (seen["clean"] + seen["forgotten"] + seen["corrected"]) / n == pytest.approx(chance, abs=0.03)
        assert seen["noise"] / n == pytest.approx((1 - chance) * 0.12, abs=0.02)
        assert seen["wrong"] / n == pytest.approx((1 - chance) * 0.88 * 0.30, abs=0.025)
    total = sum(kinds.values(), Counter[str]())
    traces = total["clean"] + total["forgotten"] + total["corrected"]
    assert total["forgotten"] / traces == pytest.approx(0.42, abs=0.03)
    assert sum(kinds["solve"].values()) / 12000 == pytest.approx(0.5, abs=0.02)
    wrong = [p for p in splits["base"] if p.info["solution"] == "wrong"]
    assert all(boxed(p.solution or "") != int(p.answer or "") >= 0 for p in wrong)


def test_commuted_operands_are_one_question() -> None:
    settings = task(name="arithmetic", digits=[1, 1])
    splits = build(settings, train={"size": 25}, test=HELD | {"size": 20}).splits
    assert len(operands(splits["test"])) == 20 and not operands(splits["train"]) & operands(splits["test"])
    with pytest.raises(UserError, match=r"splits\.train: 26 different .* only 25 outside the 20 held-out"):
        build(settings, train={"size": 26}, test=HELD | {"size": 20})


def test_a_longer_split_begins_with_the_shorter_one() -> None:
    settings = task(name="arithmetic", digits=[2, 2])
    short, long = (build(settings, train={"size": n}).splits["train"] for n in (50, 100))
    assert long[:50] == short


def test_the_same_in_every_process() -> None:
    code = (
        "import sys,json; sys.path.insert(0, sys.argv[1])\nfrom task_helpers import *\n"
        "t = task(name='arithmetic', digits=[1, 3])\n"
        "b = build(t, 7, a={'size': 40}, h={'size': 20, 'held_out': True})\n"
        "c = build(task(name='countdown', numbers=[3, 3], values=[1, 9], target=[1, 50]), 7, a={'size': 20})\n"
        "l = build(task(name='local'), 7, a={'size': 40}, h={'size': 20, 'held_out': True})\n"
        "rows = [p for x in (b, c, l) for s in x.splits.values() for p in s]\n"
        "print(json.dumps([p.prompt_id + (p.solution or '') for p in rows]))\n"
        "print('torch' in sys.modules)"
    )
    outs = [
        subprocess.run(
            [sys.executable, "-c", code, __file__.rsplit("/", 1)[0]],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outs[0] == outs[1] and outs[0].endswith("False\n")
    assert len(json.loads(outs[0].splitlines()[0])) == 140


def test_settings_are_checked() -> None:
    for wrong, message in (
        ({"digits": [3, 2]}, "low <= high"),
        ({"digits": [0, 2]}, "low <= high"),
        ({"digits": [2, 2], "operation": "sub", "operands": [2, 3]}, "takes two operands"),
        ({"digits": [2, 2], "phrasings": {"a": {"template": "hm"}}}, "no {expression}"),
        ({"digits": [2, 2], "instruction": "hm"}, "no {problem}"),
        ({"digits": [2, 2], "mixtures": {"m": {"trace": {"other": 0.5}}}}, "names the phrasings"),
        ({"digits": [2, 2], "mixtures": {"m": {"modes": {"clean": 0}}}}, "add up to 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            task(name="arithmetic", **wrong)
    with pytest.raises(UserError) as caught:
        build(
            task(name="arithmetic", digits=[2, 2]),
            a={"mixture": "claen"},
            b={"size": 1, "source": "x", "overrides": {"digit": [1, 1]}},
            c={"size": 1, "held_out": True, "repeats": True, "overrides": {"digits": [4, 3]}},
        )
    text = "\n".join(caught.value.problems)
    for part in (
        "a.size",
        "did you mean clean?",
        "b.source",
        "did you mean digits?",
        "c.repeats",
        "c.overrides: digits",
    ):
        assert part in text


def test_a_corpus_can_mix_two_languages_in_its_connectives() -> None:
    pure = {"connectives": {" so ": 0.5, "则": 0.5}}
    sums = task(name="arithmetic", digits=[4, 4], mixtures={"mixed": pure | {"mixing": 1.0}, "pure": pure})

    def both_share(mixture: str) -> float:
        prompts = build(sums, a={"size": 200, "mixture": mixture}).splits["a"]
        return sum(" so " in str(p.solution) and "则" in str(p.solution) for p in prompts) / len(prompts)

    assert both_share("pure") == 0
    assert 0.6 < both_share("mixed") < 0.9  # three connectives: 1 - 2 / 2**3


def test_a_phrasing_may_put_spaces_around_the_sign() -> None:
    task = {"name": "arithmetic", "digits": [1, 1], "phrasings": {"gym": {"template": "Add {spaced} ="}}}
    question = Arithmetic(ArithmeticSettings.model_validate(task)).draw(0, random.Random(0))
    a, b = question.metadata["operands"]
    assert question.text == f"Add {a} + {b} ="
