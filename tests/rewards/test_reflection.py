"""Words of reflection: whole words where the script has words, anywhere where it has none."""

from __future__ import annotations

import pytest

from openr1.errors import UserError
from openr1.records import Prompt
from openr1.rewards import RewardBatch, get_reward
from openr1.rewards.language import target_share
from openr1.rewards.reflection import reflection_share, reflects


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("7+8=16;wait7+8=15", True),
        ("WAIT, that is", True),
        ("let_me_wait", True),
        ("the waiter awaits", False),
        ("wait\u0301", True),
        ("a mistake.", True),
        ("mistaken", False),
        ("7+8=16等7+8=15", True),
        ("因为等于", True),
        ("hold on", True),
        ("holdon", False),
        ("", False),
    ],
)
def test_whole_words_of_latin_letters_and_any_place_of_others(text: str, holds: bool) -> None:
    assert reflects(text, ["wait", "mistake", "等", "hold on"]) is holds


def test_the_share_of_texts_and_no_words() -> None:
    assert reflection_share(["wait", "x", "a.b", "axb"], ["wait", "a.b"]) == 0.5
    assert reflection_share([], ["wait"]) == 0 and reflects("wait", []) is False and reflects("wait", [""]) is False


def test_language_by_script_judges_every_word_by_itself() -> None:
    text = "7+8=15 so 所 9+1 so"
    assert target_share(text, "en", "script") == pytest.approx(2 / 3)
    assert target_share(text, "zh", "script") == pytest.approx(1 / 3)
    assert target_share("7+8=15", "en", "script") is None
    assert target_share("pero entonces", "en", "script") == 1.0  # one script: by design not told apart


def test_the_reward_takes_the_mode_and_refuses_others() -> None:
    prompt = Prompt("t", [{"role": "user", "content": "q"}], "1", "math")
    texts = ["<think>so so 所</think>", "<think>1</think>"]
    batch = RewardBatch(texts, [prompt] * 2, ["stop"] * 2, [5] * 2, 10, 2)
    reward = get_reward("language_consistency")
    assert reward(batch, language="en", by="script") == [pytest.approx(2 / 3), 1.0]
    with pytest.raises(UserError, match="by is 'word'.*identifier"):
        reward(batch, language="en", by="word")
