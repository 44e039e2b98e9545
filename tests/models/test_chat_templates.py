"""Templates, the prefill, and the check that a reply ends where generation ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openr1.errors import UserError
from openr1.models.chat import check_template, render, render_whole, template, with_prefill
from openr1.models.settings import TokenizerSettings
from openr1.models.tokenizer import build_tokenizer
from openr1.records import Message

USER: Message = {"role": "user", "content": "1+1"}
REPLY: Message = {"role": "assistant", "content": "<think>sum</think>2"}


def make(chat_template: str | None = None) -> Any:
    return build_tokenizer(TokenizerSettings(kind="char", words=["<think>", "</think>"]), chat_template)


def test_a_prompt_is_a_prefix_of_the_conversation() -> None:
    tokenizer = make()
    assert render(tokenizer, [USER]) == "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n"
    assert render_whole(tokenizer, [USER, REPLY]) == render(tokenizer, [USER]) + "<think>sum</think>2<|im_end|>"


@pytest.mark.parametrize("prefill", [None, "<think>", "<think>\n", 'say "it"\\ {{ x }} é'])
def test_a_template_with_prefill_renders_as_render_does(prefill: str | None) -> None:
    tokenizer = make()
    expected = render(tokenizer, [USER], prefill)
    assert expected.endswith(prefill or "assistant\n")
    tokenizer.chat_template = with_prefill(tokenizer.chat_template, prefill)
    assert render(tokenizer, [USER]) == expected
    assert render_whole(tokenizer, [USER, REPLY]) == render_whole(make(), [USER, REPLY])


def test_the_generation_mask_covers_the_reply_and_its_end() -> None:
    tokenizer = make()
    out = tokenizer.apply_chat_template(
        [USER, REPLY], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    masked = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(masked) == "<think>sum</think>2<|im_end|>"


def test_earlier_reasoning_is_kept_or_dropped_as_the_template_says() -> None:
    turns = [USER, REPLY, USER, REPLY]
    assert render_whole(make("chatml"), turns).count("<think>") == 2
    assert render_whole(make("chatml_think"), turns).count("<think>") == 1


def test_shipped_templates_pass_the_check() -> None:
    for name in ("chatml", "chatml_think"):
        assert check_template(make(name)) == []
    with pytest.raises(UserError, match="did you mean chatml"):
        template("chatm")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    tokenizer = make()
    good = tokenizer.chat_template
    tokenizer.chat_template = None
    assert "no chat template" in check_template(tokenizer)[0]
    tokenizer.chat_template = good.split("{%- if add_generation_prompt -%}")[0]
    assert "ignores add_generation_prompt" in check_template(tokenizer)[0]
    tokenizer.chat_template = good.replace("content + '<|im_end|>'", "content + '<|endoftext|>'")
    assert "ends a reply with '<|endoftext|>', but the tokenizer stops at '<|im_end|>'" in check_template(tokenizer)[0]
    tokenizer.chat_template = good.replace("content + '<|im_end|>'", "content")
    assert "nothing after a reply" in check_template(tokenizer)[0]
    tokenizer.chat_template = good
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": tokenizer.pad_token_id}))
    assert "generation_config.json stops at '<|endoftext|>'" in check_template(tokenizer, tmp_path)[0]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, tokenizer.eos_token_id]}))
    assert check_template(tokenizer, tmp_path) == []
    tokenizer.add_special_tokens({"extra_special_tokens": ["<think>"]})
    assert "decoding drops the special tokens <think>" in check_template(tokenizer)[0]
