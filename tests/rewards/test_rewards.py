"""Each reward function at its edges, and against TRL's own where TRL has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from openr1.errors import UserError
from openr1.records import Prompt
from openr1.rewards import RewardBatch, get_reward, reward_names
from openr1.rewards.preference import Asked


def make(
    completions: list[str],
    gold: str | list[str] = "4",
    tokens: list[int] | None = None,
    group: int | None = None,
    **extra: object,
) -> RewardBatch:
    golds = gold if isinstance(gold, list) else [gold] * len(completions)
    prompts = [Prompt("t", [{"role": "user", "content": "2+2?"}], answer, "math") for answer in golds]
    counts = tokens or [len(text.split()) for text in completions]
    reasons: list[str | None] = ["stop"] * len(completions)
    size = group or len(completions)
    return RewardBatch(completions, prompts, reasons, counts, 100, size, **extra)  # type: ignore[arg-type]


def values(name: str, batch: RewardBatch, **params: object) -> list[float | None]:
    return get_reward(name)(batch, **params)


STRICT = "<think>\nsome work\n</think>\n<answer>\n4\n</answer>"


def test_accuracy_masks_what_is_our_fault() -> None:
    assert values("accuracy", make([r"\boxed{4}", r"\boxed{5}", "", r"\boxed{4}"], ["4", "4", "4", "???"])) == [
        1.0,
        0.0,
        0.0,
        None,
    ]


def test_reasoning_accuracy_wants_closed_reasoning() -> None:
    assert values("reasoning_accuracy", make([r"<think>a</think>\boxed{4}", r"\boxed{4}", r"a</think>\boxed{4}"])) == [
        1.0,
        0.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("text", "strict", "tolerant", "native"),
    [
        (STRICT, 1, 1, 1),
        (STRICT + "\n", 1, 1, 1),
        (STRICT + "\nand more", 0, 1, 1),
        (STRICT + STRICT, 0, 0, 0),
        ("Sure! " + STRICT, 0, 1, 0),
        ("<think>a</think> so <answer>4</answer>", 0, 1, 1),
        ("a</think><answer>4</answer>", 0, 1, 1),
        ("<think>a</think>The answer is 4.", 0, 0, 1),
        ("a</think>The answer is 4.", 0, 0, 1),
        ("<think>a</think>", 0, 0, 0),
        ("<think>a</think>\n \n", 0, 0, 0),
        ("<think>a", 0, 0, 0),
        ("", 0, 0, 0),
        ("<think></think><answer>4</answer>", 0, 1, 1),
        ("<think>a</think><answer></answer>", 0, 0, 1),
        ("<answer>4</answer><think>a</think>", 0, 0, 0),
        ("<think>a<think>b</think><answer>4</answer>", 0, 0, 0),
        ("<think>a</think><answer>4</answer></answer>", 0, 0, 0),
        ("<think>a\n</think>\n<answer>4</answer>\n<answer>5</answer>", 0, 0, 0),
    ],
)
def test_format(text: str, strict: int, tolerant: int, native: int) -> None:
    batch = make([text])
    assert values("format", batch) == [strict]
    assert values("format", batch, mode="tolerant") == [tolerant]
    assert values("format_native", batch) == values("format", batch, native=True) == [native]
    (graded,) = values("format", batch, mode="graded")
    assert graded is not None and 0 <= graded <= 1 and (graded == 1) == (strict == 1)


def test_format_is_linear_on_tag_soup() -> None:
    texts = ["<think>" * 50_000, "</think>" * 50_000, "<think>a</think>" * 30_000 + "<answer>" * 30_000]
    assert values("format", make(texts)) == [0.0, 0.0, 0.0]
    assert values("format", make(texts), mode="tolerant") == [0.0, 0.0, 0.0]


def test_tag_count_gives_a_quarter_a_tag() -> None:
    texts = [STRICT, "<think>a</think>4", "", STRICT + "<answer>"]
    assert values("tag_count", make(texts)) == [1.0, 0.5, 0.0, 0.75]


def test_reasoning_steps_wants_steps_with_content() -> None:
    texts = [
        "First,Second,Next,",
        "First, we add two and two.\nSecond, we check the sum.\nFinally, we write it down.",
        "1. Add the numbers up\n2. Check the result again\n",
        "Step 1: \nStep 2: \nStep 3: ",
        "- the same line here\n" * 9,
        "Step 1: First step\nStep 2: Second step\nStep 3: Third step",
    ]
    assert values("reasoning_steps", make(texts)) == pytest.approx([0.0, 1.0, 2 / 3, 0.0, 1 / 3, 1.0])


def test_length_is_normalised_within_each_group() -> None:
    right, wrong = r"\boxed{4}", r"\boxed{5}"
    batch = make([right, right, wrong, right, wrong, wrong], tokens=[10, 30, 20, 1000, 2000, 1000], group=3)
    assert values("length", batch) == pytest.approx([0.5, -0.5, 0.0, 0.5, -0.5, 0.0])
    assert values("length", make([right] * 3, tokens=[7, 7, 7])) == [0.0, 0.0, 0.0]


def test_cosine_is_trls_and_clamped() -> None:
    from trl.rewards import get_cosine_scaled_reward

    texts, tokens = [r"\boxed{4}", r"\boxed{5}"] * 4, [0, 0, 50, 50, 100, 100, 170, 900]
    theirs = get_cosine_scaled_reward(max_len=100)(
        [[{"role": "assistant", "content": text}] for text in texts], ["$4$"] * 8, [[0] * n for n in tokens]
    )
    assert values("cosine", make(texts, tokens=tokens)) == pytest.approx(theirs)


def test_soft_overlong_is_trls() -> None:
    from trl.rewards import get_soft_overlong_punishment

    tokens = [1, 80, 81, 90, 100, 101, 500]
    theirs = get_soft_overlong_punishment(100, 20)(completion_ids=[[0] * n for n in tokens])
    assert values("soft_overlong", make(["x"] * 7, tokens=tokens), cache=20) == pytest.approx(theirs)
    assert values("soft_overlong", make(["x"] * 2, tokens=[100, 101]), cache=0) == [0.0, -1.0]


def test_accuracy_agrees_with_trl_on_plain_answers() -> None:
    from trl.rewards import accuracy_reward

    texts = [r"\boxed{\frac{1}{2}}", r"\boxed{0.5}", r"\boxed{\frac{2}{3}}", r"\boxed{x+1}"]
    golds = [r"$\frac{1}{2}$", r"$\frac{1}{2}$", r"$\frac{1}{2}$", r"$1+x$"]
    assert values("accuracy", make(texts, golds)) == accuracy_reward(
        [[{"role": "assistant", "content": text}] for text in texts], golds
    )


def test_repetition_counts_words_or_characters_by_script() -> None:
    from trl.rewards import get_repetition_penalty_reward

    words = ["a b c a b c a b c", "a b c d e f g h", "a b", ""]
    ids = [[ord(w) for w in text.split()] for text in words]
    assert values("repetition", make(words)) == pytest.approx(
        get_repetition_penalty_reward(3, -1.0)(completion_ids=ids)
    )
    loop, prose = "我们计算" * 20, "所以答案是四因为二加二等于四我们再检查一遍"
    looping, honest = values("repetition", make([loop, prose]))
    assert looping is not None and honest is not None and looping < -0.9 < honest
    assert values("repetition", make([loop]), max_penalty=-0.5)[0] > -0.5  # type: ignore[operator]


ENGLISH = "We start by adding the two numbers together. The sum of the first pair is easy to compute, so we check it."
GERMAN = "Wir beginnen damit, die beiden Zahlen zu addieren. Die Summe des ersten Paares ist leicht zu berechnen."
CHINESE = "我们先把两个数字加起来，然后检查结果是否正确。"
RUSSIAN = "Сначала мы складываем два числа, а затем проверяем результат."


def test_language_consistency_is_a_share_of_words() -> None:
    english, german, chinese, mixed, russian = values(
        "language_consistency", make([ENGLISH, GERMAN, CHINESE, ENGLISH + CHINESE, RUSSIAN]), language="en"
    )
    assert english == 1.0 and german == chinese == russian == 0.0 and 0.2 < mixed < 0.8  # type: ignore[operator]
    assert values("language_consistency", make([CHINESE, ENGLISH, GERMAN]), language="zh") == [1.0, 0.0, 0.0]
    assert values("language_consistency", make([GERMAN, ENGLISH]), language="de") == [1.0, 0.0]
    assert values("language_consistency", make([RUSSIAN, ENGLISH]), language="ru") == [1.0, 0.0]


def test_language_consistency_leaves_out_maths_code_and_tags() -> None:
    noise = r"$\text{Summe} = x$ `für zahl in liste` \[ \sqrt{zwei} \]" + "\n```python\nwenn = das * ist\n```\n<think>"
    assert values("language_consistency", make([ENGLISH + noise + ENGLISH]), language="en") == [1.0]


def test_language_consistency_takes_a_language_and_cannot_vary_on_digits() -> None:
    assert values("language_consistency", make([GERMAN]), language="de") == [1.0]
    assert values("language_consistency", make(["1+1=2", "", "$x$"])) == [1.0, 1.0, 1.0]
    with pytest.raises(UserError, match="unknown language"):
        values("language_consistency", make([ENGLISH]), language="english")


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="cache"):
        values("soft_overlong", make(["x"]), cache=1000)
    with pytest.raises(UserError, match="ngram_size"):
        values("repetition", make(["x"]), ngram_size=0)
    with pytest.raises(UserError, match="positive"):
        values("repetition", make(["x"]), max_penalty=1.0)
    unlimited = make(["x"])
    unlimited.max_tokens = None
    with pytest.raises(UserError, match="max_tokens"):
        values("cosine", unlimited)


class Lengths:
    """A scorer that likes long replies."""

    def score(self, asked: Sequence[Asked]) -> list[float | None]:
        return [float(len(reply)) for _, reply in asked]


OF_PROGRAMS = ("code", "binary_code", "codeforces", "ioi")


def test_every_reward_returns_one_value_a_row_on_odd_texts() -> None:
    odd = ["", " ", "\x00", "\ud800", "</think>", "<answer>", "🧮" * 50, "x" * 20_000, "\u202e42"]
    for name in reward_names():
        if get_reward(name).__module__.startswith("openr1.rewards"):
            params = {"cache": 10} if name == "soft_overlong" else {}
            if name in ("helpful", "harmless"):
                params = {"scorer": Lengths()}
            batch = make(odd)
            if name in OF_PROGRAMS:
                tests = {"verification_info": {"test_cases": [{"input": "", "output": "4"}]}}
                batch.prompts[:] = [replace(p, metadata=json.dumps(tests)) for p in batch.prompts]
            found = values(name, batch, **params)
            assert len(found) == len(odd) and all(isinstance(v, float) for v in found), name
