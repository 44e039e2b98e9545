"""A model folder as servers and clouds import it: plain safetensors in shards, and files that older readers know too.

What transformers 5 writes, a reader of its version 4 takes for something else, partly in silence: the base of rotary
embeddings stands in `rope_parameters` only (it would go on with 10,000), the tokenizer's class is one that it does not
have, special tokens are a list where it wants a mapping. The export says both. The chat template loses the tags that
only training reads, and keeps or drops the reasoning of earlier turns as asked. Weights are copied shard by shard: a
shard is all that has to fit into memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openr1.errors import UserError
from openr1.manifest import write_json
from openr1.models.chat import check_template, eos_ids, render, render_whole
from openr1.models.source import causal_problems, load_tokenizer
from openr1.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Reasoning = Literal["keep", "drop"]
GB = 10**9
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# what a tokenizer needs beside tokenizer.json where it is not its whole
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
SAMPLING = ("temperature", "top_p", "top_k", "max_new_tokens")

# a shipped template's words for "earlier replies lose their reasoning", and those for "every turn as it was"
_DROPS = "m['content'] if loop.last else m['content'].split('</think>')[-1].lstrip('\\n')"
_KEEPS = "m['content']"
# before any template that keeps it: the same messages, earlier replies without their reasoning
_WITHOUT = """{%- set turns = namespace(all=[]) -%}
{%- for m in messages -%}
{%- if m['role'] == 'assistant' and not loop.last and m['content'] is string and '</think>' in m['content'] -%}
{%- set turns.all = turns.all + [dict(m, content=m['content'].split('</think>')[-1].lstrip('\\n'))] -%}
{%- else -%}
{%- set turns.all = turns.all + [m] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = turns.all -%}
"""
_ASK: list[Message] = [{"role": "user", "content": "1+1"}]
_REPLY: list[Message] = [*_ASK, {"role": "assistant", "content": "<think>one and one</think>2"}]
_LATER: list[Message] = [*_REPLY, {"role": "user", "content": "2+2"}]
_WHOLE: list[Message] = [*_LATER, {"role": "assistant", "content": "<think>two and two</think>4"}]


@dataclass(frozen=True)
class Exported:
    """What was written: shards (file -> bytes), tensors, what ends a reply, what becomes of earlier reasoning."""

    dtype: str
    shards: dict[str, int]
    tensors: int
    parameters: int
    eos: list[str]
    earlier_reasoning: str


def export_model(
    source: Path,
    out: Path,
    dtype: str,
    earlier_reasoning: Reasoning | None = None,
    sampling: dict[str, Any] | None = None,
    shard_gb: float = 5.0,
) -> Exported:
    """Write the model of `source` into the empty folder `out`, its weights in `dtype`.

    `sampling` goes to generation_config.json, for servers that take their defaults from there. Raises UserError for a
    folder that is no plain causal language model, and for a template that cannot be made to do what is asked.
    """
    problems = causal_problems(source)
    config = {} if problems else json.loads((source / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        problems.append(f"{source}: its weights are quantised; export the model that they were made from")
    if problems:
        raise UserError(*problems)
    tokenizer = load_tokenizer(source)
    wrong = check_template(tokenizer, source)
    if wrong:
        raise UserError(*(f"{source}: {p}" for p in wrong))
    template = _template(tokenizer, earlier_reasoning)
    shards, tensors, parameters = _write_weights(source, out, dtype, int(shard_gb * GB))
    write_json(out / "config.json", older_config(config, dtype))
    ends = _write_generation(source, out, tokenizer, sampling or {})
    _write_tokenizer(source, out, tokenizer, template)
    for name in shards:  # safetensors writes them for the owner alone
        (out / name).chmod((out / "config.json").stat().st_mode & 0o777)
    names = [str(tokenizer.convert_ids_to_tokens(i)) for i in ends]
    return Exported(dtype, shards, tensors, parameters, names, _does(load_tokenizer(out)))


# ---------------------------------------------------------------------------------------------------------- weights
def _write_weights(source: Path, out: Path, dtype: str, most: int) -> tuple[dict[str, int], int, int]:
    """(file -> bytes, tensors, numbers in them); a shard is at most `most` bytes, but for a single larger tensor."""
    import torch
    from safetensors.torch import save_file

    kind, width = getattr(torch, dtype), getattr(torch, dtype).itemsize
    where = dict(tensor_files(source))
    groups: list[list[str]] = [[]]
    room, numbers = most, 0
    for name, file in where.items():
        count = _count(file, name)
        numbers += count
        if groups[-1] and count * width > room:
            groups, room = [*groups, []], most
        groups[-1].append(name)
        room -= count * width
    names = [SINGLE] if len(groups) == 1 else [_shard(i, len(groups)) for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        save_file({t: _read(where[t], t, kind) for t in group}, out / name, metadata={"format": "pt"})
    if len(groups) > 1:
        weight_map = {t: name for name, group in zip(names, groups, strict=True) for t in group}
        write_json(out / INDEX, {"metadata": {"total_size": numbers * width}, "weight_map": weight_map})
    return {name: (out / name).stat().st_size for name in names}, len(where), numbers


def tensor_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every tensor of a model folder and the file that holds it, in a fixed order."""
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: holds no .safetensors file, so there are no weights to export")
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in sorted(opened.keys()):
                yield name, file


def _shard(i: int, of: int) -> str:
    return f"model-{i + 1:05d}-of-{of:05d}.safetensors"


def _count(file: Path, name: str) -> int:
    from math import prod

    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return prod(opened.get_slice(name).get_shape())


def _read(file: Path, name: str, kind: Any) -> Any:
    """A tensor in the wanted type; one of whole numbers stays as it is."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        tensor = opened.get_tensor(name)
    return tensor.to(kind) if tensor.is_floating_point() else tensor


# ---------------------------------------------------------------------------------------------- what readers look at
def older_config(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """config.json with the names of transformers 4 beside those of 5: torch_dtype, rope_theta, rope_scaling."""
    new = config | {"dtype": dtype, "torch_dtype": dtype}
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        new["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            new["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    return new


def _write_generation(
    source: Path, out: Path, tokenizer: PreTrainedTokenizerBase, sampling: dict[str, Any]
) -> list[int]:
    """generation_config.json with every id that ends a reply, the pad token, and how to sample."""
    from types import SimpleNamespace

    path = source / "generation_config.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ends = eos_ids(tokenizer, SimpleNamespace(eos_token_id=before.get("eos_token_id")))
    new = before | {"eos_token_id": ends[0] if len(ends) == 1 else ends, "pad_token_id": tokenizer.pad_token_id}
    if sampling:
        new |= sampling | {"do_sample": sampling.get("temperature", 1.0) != 0}
        if not new["do_sample"]:  # greedy: a temperature of 0 is refused by transformers
            new = {k: v for k, v in new.items() if k not in ("temperature", "top_p", "top_k")}
    new.pop("_from_model_config", None)  # else transformers writes what it says anew from config.json
    write_json(out / "generation_config.json", new)
    return ends


def _write_tokenizer(source: Path, out: Path, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """The tokenizer's files, the template in both of its places; ids and rendering are those of the source."""
    tokenizer.chat_template = template
    tokenizer.save_pretrained(out)
    for name in VOCABULARY:
        if not (out / name).exists() and (source / name).is_file():
            (out / name).write_bytes((source / name).read_bytes())
    path = out / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    if said.get("tokenizer_class") == "TokenizersBackend":
        said["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(said.get("extra_special_tokens"), list):
        said["additional_special_tokens"] = said.pop("extra_special_tokens")
    path.unlink()
    write_json(path, said | {"chat_template": template})
    _same(load_tokenizer(source), load_tokenizer(out), source)


def _same(before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase, source: Path) -> None:
    """Raise where the exported tokenizer reads, or ends, otherwise than its source."""
    text = render_whole(before, _REPLY)
    same = before(text)["input_ids"] == after(text)["input_ids"] and render_whole(after, _REPLY) == text
    named = ("eos_token_id", "pad_token_id", "bos_token_id")
    if not same or any(getattr(before, n) != getattr(after, n) for n in named):
        raise UserError(f"{source}: its tokenizer comes out different when it is saved; name the model's own source")


# --------------------------------------------------------------------------------------------------------- template
def without_training_tags(template: str) -> str:
    """A template without `{% generation %}`, which only training reads and most readers of Jinja do not know.

    A comment takes its place, with the same care for the white space around it.
    """
    return re.sub(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}", r"{#\1 \2#}", template)


def _template(tokenizer: PreTrainedTokenizerBase, wanted: Reasoning | None) -> str:
    """The template to export; one prompt and its reply are rendered as before."""
    before = str(tokenizer.chat_template)
    expected = [render(tokenizer, _ASK), render_whole(tokenizer, _REPLY)]
    found = _does(tokenizer)
    new = without_training_tags(before)
    if wanted == "drop" and found == "keep":
        new = _WITHOUT + new
    if wanted == "keep" and found == "drop":
        new = new.replace(_DROPS, _KEEPS)
    tokenizer.chat_template = new
    rendered = [render(tokenizer, _ASK), render_whole(tokenizer, _REPLY)]
    done = wanted is None or _does(tokenizer) == wanted
    tokenizer.chat_template = before
    if not done:
        raise UserError(
            f"earlier_reasoning: {wanted}, but the model's own template {_IN_WORDS[found]}; give the model a shipped "
            "template (model.chat_template: chatml), or leave earlier_reasoning out"
        )
    if rendered != expected:
        raise UserError("the model's chat template renders otherwise without its training tags; mend the template")
    return new


_IN_WORDS = {"keep": "keeps it", "drop": "drops it", "other": "changes replies in a way of its own"}


def _does(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a template does with the reasoning of an earlier reply: keep, drop, or other."""
    text = render(tokenizer, _LATER)
    if "2" not in text.rpartition("2+2")[0].partition("1+1")[2]:
        return "other"
    return "keep" if "one and one" in text else "drop"
