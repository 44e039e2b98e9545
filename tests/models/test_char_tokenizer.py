"""The character tokenizer: exact, and one token a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr1.models.settings import TokenizerSettings
from openr1.models.source import load_tokenizer
from openr1.models.tokenizer import build_tokenizer, vocabulary

WORDS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "wait"]
BYTES = build_tokenizer(TokenizerSettings(kind="char", words=WORDS, byte_fallback=True))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_round_trips_with_byte_fallback(text: str) -> None:
    assert BYTES.decode(BYTES(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize(
    "text", ["<0x41>é", "  a \r\n\t b  ", "<think></think>wait", "漢字 👩‍👩‍👧 e\u0301", "do n't , ."]
)
def test_awkward_texts_round_trip(text: str) -> None:
    assert BYTES.decode(BYTES(text, add_special_tokens=False)["input_ids"]) == text


def test_words_are_one_token_and_the_rest_is_characters() -> None:
    tokens = BYTES.convert_ids_to_tokens(BYTES("<think>1+2</think>\\boxed{3}", add_special_tokens=False)["input_ids"])
    assert tokens == ["<think>", "1", "+", "2", "</think>", "\\boxed{", "3", "}"]


def test_the_longer_word_wins() -> None:
    tokenizer = build_tokenizer(TokenizerSettings(kind="char", words=["ab", "abc"]))
    assert tokenizer.tokenize("abcab") == ["abc", "ab"]


def test_without_byte_fallback_the_vocabulary_is_small() -> None:
    small = TokenizerSettings(kind="char", words=WORDS)
    assert len(vocabulary(small)) == 3 + len(WORDS) + 3 + 96 == len(build_tokenizer(small))


def test_it_is_the_same_after_saving(tmp_path: Path) -> None:
    BYTES.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    text = "<think>7+8=15 é</think>"
    assert again(text)["input_ids"] == BYTES(text)["input_ids"] and again.padding_side == "left"
    assert (again.eos_token, again.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert again.chat_template == BYTES.chat_template
