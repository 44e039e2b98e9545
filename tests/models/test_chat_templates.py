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
    for name in ("chatml", "chatml_think", "r1_zero"):
        assert check_template(make(name)) == []
    with pytest.raises(UserError, match="did you mean chatml"):
        template("chatm")


def test_r1_zeros_prompt_is_the_papers_and_ends_in_the_models_own_end() -> None:
    tokenizer = make("r1_zero")
    asked = render(tokenizer, [USER])
    assert asked.startswith("A conversation between User and Assistant.") and asked.endswith("User: 1+1\nAssistant:")
    assert render_whole(tokenizer, [USER, REPLY]) == asked + REPLY["content"] + tokenizer.eos_token
    system: Message = {"role": "system", "content": "Be brief."}
    assert render(tokenizer, [system, USER]) == "Be brief. User: 1+1\nAssistant:"


def base_model(folder: Path, own_end: str, special: list[str], pad: bool) -> Path:
    """A model folder as base models are published: generation ends where documents do, and turns are no matter."""
    from openr1.models.scratch import init_model
    from openr1.models.settings import ModelSettings

    settings = ModelSettings.model_validate(
        {
            "source": "scratch", "architecture": "llama", "layers": 1, "hidden": 16, "ffn": 16, "heads": 2,
            "kv_heads": 1, "context": 64, "dtype": "float32", "tie_embeddings": True, "rope_theta": 10000.0,
            "vocab": 160, "tokenizer": {"kind": "char", "words": ["<think>", "</think>"]},
        }
    )  # fmt: skip
    init_model(settings, 0, folder)
    tokenizer = make()
    tokenizer.add_special_tokens({"additional_special_tokens": [*special, own_end]})
    tokenizer.eos_token, tokenizer.chat_template = own_end, None
    if not pad:
        tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    end = tokenizer.convert_tokens_to_ids(own_end)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end, "max_new_tokens": 2048}))
    return folder


@pytest.mark.parametrize(
    ("name", "own_end", "special", "pad", "end", "padding"),
    [
        # as Qwen2.5's base models, which know <|im_end|> and end at <|endoftext|>
        ("chatml_think", "<|endoftext|>", ["<|im_start|>", "<|im_end|>"], True, "<|im_end|>", "<|endoftext|>"),
        # as Llama-3.1, which has no pad token
        (
            "llama3", "<|end_of_text|>",
            ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>"],
            False, "<|eot_id|>", "<|finetune_right_pad_id|>",
        ),
        ("r1_zero", "<|end_of_text|>", ["<|endoftext|>"], True, "<|end_of_text|>", "<|endoftext|>"),
    ],
)  # fmt: skip
def test_a_base_model_with_a_shipped_template_ends_its_replies(
    name: str, own_end: str, special: list[str], pad: bool, end: str, padding: str, tmp_path: Path
) -> None:
    from openr1.models.source import load_tokenizer, with_template

    source = base_model(tmp_path / "base", own_end, special, pad)
    before = {f.name: f.read_bytes() for f in source.iterdir()}
    folder = with_template(source, name, tmp_path / "made")
    tokenizer = load_tokenizer(folder)
    assert check_template(tokenizer, folder) == []
    assert (tokenizer.eos_token, tokenizer.pad_token) == (end, padding)
    told = json.loads((folder / "generation_config.json").read_text())
    ends = told["eos_token_id"] if isinstance(told["eos_token_id"], list) else [told["eos_token_id"]]
    assert [tokenizer.convert_ids_to_tokens(i) for i in ends] == list(dict.fromkeys([end, own_end]))
    assert told["max_new_tokens"] == 2048
    assert {f.name: f.read_bytes() for f in source.iterdir()} == before


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
