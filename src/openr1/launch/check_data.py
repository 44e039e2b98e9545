"""What `openr1 check --data` tells of the stages that train: template, EOS, think tokens, and lengths of the rows.

Only what is on this machine is looked at; nothing is downloaded, neither torch nor transformers is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openr1.config.fit import model_of
from openr1.config.recipe import Recipe
from openr1.errors import UserError
from openr1.launch.status import run_path
from openr1.manifest import load_manifest
from openr1.models.chat import check_template, render
from openr1.models.plain import NotHere, PlainTokenizer, plain_tokenizer
from openr1.models.settings import ModelSettings
from openr1.records import Prompt, prompts_by_id
from openr1.stages.base import read_prompts, sft_rows, solved_rows
from openr1.stages.settings import GRPOStage, PromptsStage, SFTStage
from openr1.train.check import generation_batch
from openr1.train.fields import default
from openr1.train.rows import tokenize

MOST = 5_000  # rows of a stage that are looked at, evenly spaced; seconds of work
MARKS = ("<think>", "</think>")
SAID = {
    "too_long": "are longer than {room} tokens and are left out",
    "empty": "have an empty reply and are left out",
    "prompt_changes": "are left out: the template renders their prompt differently before a reply",
}
Splits = Mapping[str, Sequence[Prompt]]


@dataclass
class DataReport:
    """Lines to print, problems, and what could not be looked at."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(f"  {'':<20} {text}")


def check_training_data(recipe: Recipe, name: str, drawn: Mapping[str, Splits]) -> DataReport:
    """Of one stage of kind sft or grpo; `drawn` holds the splits of the recipe's prompts stages."""
    report, settings = DataReport(), recipe.stages[name]
    assert isinstance(settings, SFTStage | GRPOStage)
    model = model_of(recipe.stages, name)
    if model is None:
        return report
    try:
        tokenizer, folder = plain_tokenizer(model)
        own = folder if model.chat_template is None else None  # a shipped template comes with its own ends
        wrong = check_template(tokenizer, own)  # type: ignore[arg-type]
    except NotHere as e:
        report.not_checked.append(f"{name}: template, EOS, think tokens and lengths; {e} (openr1 run fetches it)")
        return report
    except UserError as e:
        report.problems += [f"stages.{name}.model: {p}" for p in e.problems]
        return report
    model = _with_facts(model, folder)
    wrong += _vocabulary_problems(tokenizer, model)
    report.problems += [f"stages.{name}.model: {p}" for p in wrong]
    if tokenizer.chat_template:
        report.say(_tokens(tokenizer))
    if wrong:
        return report
    rows = _rows(recipe, name, drawn)
    if rows is None:
        ref = settings.inputs["data"]
        report.say(f"lengths of {ref} are told once it is made")
        return report
    try:
        if isinstance(settings, SFTStage):
            _sft(report, name, settings, model, tokenizer, rows)
        else:
            _grpo(report, name, settings, model, tokenizer, rows)
    except UserError as e:
        report.problems += [f"stages.{name}: {p}" for p in e.problems]
    return report


# -------------------------------------------------------------------------------------------------------- tokenizer
def _with_facts(model: ModelSettings, folder: Path | None) -> ModelSettings:
    """The model with the context and the vocabulary of its config.json, where the recipe does not state them."""
    if folder is None or not (folder / "config.json").is_file():
        return model
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= config.get("text_config") or {}
    found = {"context": config.get("max_position_embeddings"), "vocab": config.get("vocab_size")}
    return model.model_copy(update={k: v for k, v in found.items() if getattr(model, k) is None})


def _vocabulary_problems(tokenizer: PlainTokenizer, model: ModelSettings) -> list[str]:
    largest = max(tokenizer.get_vocab().values()) + 1
    if model.vocab is None or largest <= model.vocab:
        return []
    return [f"the tokenizer has ids up to {largest - 1}, the model's vocabulary is {model.vocab}; which is smaller"]


def _tokens(tokenizer: PlainTokenizer) -> str:
    """`EOS '<|im_end|>', pad '<|endoftext|>'; <think> is one token, </think> is 3 tokens`."""
    known = tokenizer.get_vocab()
    marks = []
    for mark in MARKS:
        count = len(tokenizer(mark, add_special_tokens=False)["input_ids"])
        kind = "one token" if count == 1 and mark in known else f"{count} tokens, not in the vocabulary"
        marks.append(f"{mark} is {kind}")
    return f"EOS {tokenizer.eos_token!r}, pad {tokenizer.pad_token!r}; {', '.join(marks)}"


# ------------------------------------------------------------------------------------------------------------- rows
def _rows(recipe: Recipe, name: str, drawn: Mapping[str, Splits]) -> list[Any] | None:
    """The rows that the stage will read: prompts, or for SFT conversations; None while they are not made."""
    settings = recipe.stages[name]
    source, _, output = settings.inputs["data"].partition("/")
    of_prompts: Callable[[Sequence[Prompt]], list[Any]] = solved_rows if isinstance(settings, SFTStage) else list
    if isinstance(recipe.stages[source], PromptsStage):
        return of_prompts(drawn[source][output]) if source in drawn else None
    manifest = load_manifest(run_path(recipe.run) / source)
    if manifest is None or manifest.status != "done" or output not in manifest.outputs:
        return None
    folder: Path = run_path(recipe.run) / source / manifest.outputs[output]["path"]
    return sft_rows(folder) if isinstance(settings, SFTStage) else list(read_prompts(folder))


def _sft(
    report: DataReport, name: str, settings: SFTStage, model: ModelSettings, tokenizer: PlainTokenizer, rows: list[Any]
) -> None:
    if not rows:
        report.problems.append(
            f"stages.{name}: {settings.inputs['data']} holds no completion or solution to learn from"
        )
        return
    looked = _some(rows)
    longest = settings.train.get("max_length", default("sft", "max_length"))
    room = min((n for n in (longest, model.context) if n is not None), default=None)
    everything, out = tokenize(looked, tokenizer, None)  # type: ignore[arg-type]
    lengths = sorted(len(row["input_ids"]) for row in everything)
    out["too_long"] = sum(n > room for n in lengths) if room is not None else 0
    report.say(f"{_of(looked, rows)}{_spread(lengths)}")
    for reason, n in out.items():
        if n:
            report.say(f"{n} ({n / len(looked):.1%}) {SAID[reason].format(room=room)}")
    if len(looked) == sum(out.values()):
        report.problems.append(
            f"stages.{name}.train.max_length: none of {_of(looked, rows)} is left to train on; raise it (the median "
            f"row has {lengths[len(lengths) // 2] if lengths else 0} tokens), or mend the data"
        )
    endless = sum(row["input_ids"][-1] != tokenizer.eos_token_id for row in everything)
    if endless:
        report.problems.append(
            f"stages.{name}: {endless} of {_of(looked, rows)} do not end in the EOS {tokenizer.eos_token!r}, so the "
            "model would not learn to stop; mend the chat template"
        )


def _grpo(
    report: DataReport,
    name: str,
    settings: GRPOStage,
    model: ModelSettings,
    tokenizer: PlainTokenizer,
    rows: list[Any],
) -> None:
    prompts = list(prompts_by_id(rows).values())
    looked = _some(prompts)
    texts = [render(tokenizer, p.messages, settings.prefill) for p in looked]  # type: ignore[arg-type]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    report.say(f"{_of(looked, prompts, 'prompts')}{_spread(sorted(lengths))}")
    new = settings.train.get("max_completion_length", default("grpo", "max_completion_length")) or 0
    room = model.context - new if model.context is not None else None
    fit = len(prompts)
    if room is not None and (over := sum(n > room for n in lengths)):
        fit -= over * len(prompts) // len(looked)
        report.say(f"{over} ({over / len(looked):.1%}) leave no room for {new} new tokens and are left out")
    solved = [p.solution for p in looked if p.solution]
    if solved and (over := sum(len(i) > new for i in tokenizer(solved, add_special_tokens=False)["input_ids"])):
        report.say(f"{over} of {len(solved)} worked solutions are longer than max_completion_length {new}")
    needed = generation_batch(settings.train, settings.world_size)[0] // int(
        settings.train.get("num_generations") or default("grpo", "num_generations")
    )
    if fit < needed:
        report.problems.append(
            f"stages.{name}: {fit} usable prompts, one generation takes {needed}; give more, or a smaller batch"
        )


def _some(rows: list[Any]) -> list[Any]:
    return rows[:: -(-len(rows) // MOST)] if rows else []


def _of(looked: Sequence[Any], rows: Sequence[Any], what: str = "rows") -> str:
    """`4,000 rows`, or `4,500 of 90,000 rows`."""
    return f"{len(rows):,} {what}" if len(looked) == len(rows) else f"{len(looked):,} of {len(rows):,} {what}"


def _spread(lengths: Sequence[int]) -> str:
    """Of sorted lengths."""
    if not lengths:
        return ""
    middle, most = lengths[len(lengths) // 2], lengths[min(len(lengths) * 99 // 100, len(lengths) - 1)]
    return f": {middle} tokens in the median, {most} at 99%, {lengths[-1]} at most"
