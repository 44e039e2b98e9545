"""Chat templates, rendering, and the check that a template, a tokenizer and a model agree on where a reply ends.

A wrong template is silent: training runs, the loss falls, and the model never stops talking, because what ends a turn
in the template is not what ends generation. `check_template` says so before anything is trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openr1.errors import UserError, did_you_mean
from openr1.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PADS = ("<|finetune_right_pad_id|>", "<|endoftext|>", "<pad>", "<unk>")
PAD, START, EOS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

_HEAD = """{%- for m in messages -%}
{%- if m['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
"""
_TAIL = """{% generation %}{{- content + '<|im_end|>' -}}{% endgeneration %}
{%- if not loop.last or add_generation_prompt -%}{{- '\\n' -}}{%- endif -%}
{%- else -%}
{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""

# DeepSeek-R1-Zero's prompt (arXiv 2501.12948, table 1): plain text for a base model, ended by its own EOS
_R1_ZERO = """{%- if messages[0]['role'] == 'system' -%}{{- messages[0]['content'] + ' ' -}}
{%- else -%}
{{- 'A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant '
  + 'first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning '
  + 'process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> '
  + 'reasoning process here </think> <answer> answer here </answer>. ' -}}
{%- endif -%}
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}{{- 'User: ' + m['content'] + '\\n' -}}
{%- elif m['role'] == 'assistant' -%}
{{- 'Assistant:' -}}{% generation %}{{- m['content'] + eos_token -}}{% endgeneration %}
{%- if not loop.last -%}{{- '\\n' -}}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"""

# Llama 3's turns, without the date that its own template writes; earlier replies lose their reasoning
_LLAMA3 = """{{- bos_token -}}
{%- for m in messages -%}
{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' -}}
{%- if m['role'] == 'assistant' -%}
{%- set content = m['content'] if loop.last else m['content'].split('</think>')[-1].lstrip('\\n') -%}
{% generation %}{{- content + '<|eot_id|>' -}}{% endgeneration %}
{%- else -%}
{{- m['content'] + '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"""

TEMPLATES: dict[str, str] = {
    # every turn as it was
    "chatml": _HEAD + "{%- set content = m['content'] -%}\n" + _TAIL,
    # earlier replies lose their reasoning, as in DeepSeek-R1's own template
    "chatml_think": _HEAD
    + "{%- set content = m['content'] if loop.last else m['content'].split('</think>')[-1].lstrip('\\n') -%}\n"
    + _TAIL,
    "r1_zero": _R1_ZERO,
    "llama3": _LLAMA3,
}


def template(name: str) -> str:
    """The text of a shipped template."""
    if name not in TEMPLATES:
        raise UserError(f"chat_template {name!r} is not a shipped template; {did_you_mean(name, TEMPLATES)}")
    return TEMPLATES[name]


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prefill: str | None = None) -> str:
    """The prompt as the model reads it, up to where the reply begins; the reply is made to begin with `prefill`."""
    return _text(tokenizer, messages, ask=True) + (prefill or "")


def render_whole(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """A conversation that ends in a reply, as training reads it."""
    return _text(tokenizer, messages, ask=False)


def _text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], ask: bool) -> str:
    turns = [{"role": m["role"], "content": m["content"]} for m in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask))


def with_prefill(chat_template: str, prefill: str | None) -> str:
    """A template whose generation prompt ends in `prefill`, so that a trainer or a server renders as `render` does."""
    if not prefill:
        return chat_template
    literal = json.dumps(prefill, ensure_ascii=False)
    return chat_template + "{% if add_generation_prompt %}{{ " + literal + " }}{% endif %}"


def eos_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None) -> list[int]:
    """Every token id that ends a reply: the tokenizer's EOS and those of the generation config."""
    configured = getattr(generation_config, "eos_token_id", None)
    found = [configured] if isinstance(configured, int) else list(configured or [])
    return list(dict.fromkeys(i for i in [tokenizer.eos_token_id, *found] if i is not None))


def agree_on_the_end(tokenizer: PreTrainedTokenizerBase, configured: Sequence[int] = ()) -> list[int]:
    """Make what the template puts after a reply the EOS, and give a tokenizer without a pad token one.

    A base model's EOS ends documents; a template that ends turns in another special token would never be seen to end.
    Returns every id that ends generation: that token first, then those of the generation config. A token that is not
    special to the tokenizer is left alone; `check_template` says so.
    """
    probe: list[Message] = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
    tail = tokenizer(render_whole(tokenizer, probe).rsplit("2", 1)[1], add_special_tokens=False)["input_ids"]
    special = {**tokenizer.added_tokens_decoder}
    if tail and tail[0] in special:
        tokenizer.eos_token = str(special[tail[0]])
    if tokenizer.pad_token_id is None:
        known = tokenizer.get_vocab()
        tokenizer.pad_token = next((p for p in PADS if p in known and p != tokenizer.eos_token), None)
    return list(dict.fromkeys(i for i in [tokenizer.eos_token_id, *configured] if i is not None))


def check_template(tokenizer: PreTrainedTokenizerBase, folder: Path | None = None) -> list[str]:
    """What is wrong between chat template, tokenizer and (with `folder`) the generation_config; [] when fine."""
    if not tokenizer.chat_template:
        return ["the tokenizer has no chat template; set model.chat_template (for instance chatml)"]
    user: list[Message] = [{"role": "user", "content": "1+1"}]
    plain, asked = render_whole(tokenizer, user), render(tokenizer, user)
    full = render_whole(tokenizer, [*user, {"role": "assistant", "content": "<think>1</think>2"}])
    problems = []
    if plain == asked:
        problems.append("the chat template ignores add_generation_prompt, so a reply would begin as another user turn")
    if not full.startswith(asked) and not full.startswith(asked.removesuffix("<think>\n").removesuffix("<think>")):
        problems.append("the chat template renders a prompt differently before a reply than alone")
    problems += _eos_problems(tokenizer, full, folder)
    if tokenizer.pad_token_id is None:
        problems.append("the tokenizer has no pad token; set one that is not the EOS")
    special = set(tokenizer.all_special_tokens)
    lost = [t for t in ("<think>", "</think>") if t in special]
    if lost:
        problems.append(f"decoding drops the special tokens {' and '.join(lost)}; declare them as ordinary tokens")
    return problems


def _eos_problems(tokenizer: PreTrainedTokenizerBase, full: str, folder: Path | None) -> list[str]:
    """Whether the turn ends in a token that ends generation, in the tokenizer and in generation_config.json."""
    if tokenizer.eos_token_id is None:
        return ["the tokenizer has no EOS token, so nothing ends a reply"]
    ends: list[int] = tokenizer(full.rsplit("2", 1)[1], add_special_tokens=False)["input_ids"]
    if not ends:
        return ["the chat template puts nothing after a reply, so the model never learns to stop"]
    known = [tokenizer.eos_token_id]
    path = folder / "generation_config.json" if folder else None
    if path is not None and path.exists():
        configured = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        known = [configured] if isinstance(configured, int) else list(configured or [])
    if ends[0] in known:
        return []
    where = "generation_config.json" if path is not None and path.exists() else "the tokenizer"
    names = ", ".join(repr(tokenizer.convert_ids_to_tokens(i)) for i in known) or "nothing"
    token = tokenizer.convert_ids_to_tokens(ends[0])
    return [f"the chat template ends a reply with {token!r}, but {where} stops at {names}; generation would not end"]
