"""Stage `export`: the model as servers and clouds import it, loaded back and compared with what it was made from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from openr1.errors import OutsideError
from openr1.models.export import SAMPLING, export_model
from openr1.stages.base import Output, StageContext, StageResult
from openr1.stages.model_input import model_folder
from openr1.stages.settings import ExportStage

QUESTIONS = ("1+1", "What is 12*12?", "Name a prime number above 100.", "x")


def run(ctx: StageContext) -> StageResult:
    settings: ExportStage = ctx.settings
    source, out = model_folder(ctx), ctx.partial("model")
    sampling = {name: value for name in SAMPLING if (value := getattr(settings.sampling, name)) is not None}
    made = export_model(source, out, settings.dtype, settings.earlier_reasoning, sampling, settings.shard_gb)
    results = asdict(made)
    if settings.compare_tokens:
        results["compared"] = compared(source, out, settings.dtype, settings.compare_tokens)
    return StageResult({"model": Output("model")}, results={"export": results})


def compared(source: Path, out: Path, dtype: str, tokens: int) -> dict[str, int]:
    """Greedy answers of the source, its weights in `dtype`, and of the export: how many, how long, how many equal.

    Raises OutsideError where one differs: the folder is then not what the model was.
    """
    before, after = (answers(folder, dtype, tokens) for folder in (source, out))
    same = sum(a == b for a, b in zip(before, after, strict=True))
    if same < len(before):
        raise OutsideError(
            f"{len(before) - same} of {len(before)} greedy answers of the export differ from the model's; a file may "
            "have been damaged on its way to the disk; run the stage again"
        )
    return {"prompts": len(before), "tokens": sum(map(len, after)), "equal": same}


def answers(folder: Path, dtype: str, tokens: int) -> list[list[int]]:
    """The token ids of greedy answers to a few questions, by transformers."""
    from openr1.engines.settings import SamplingSettings
    from openr1.engines.transformers import TransformersEngine
    from openr1.models.chat import render
    from openr1.models.source import load_model, load_tokenizer

    tokenizer = load_tokenizer(folder)
    engine = TransformersEngine(load_model(folder, dtype), tokenizer, len(QUESTIONS))
    prompts = [render(tokenizer, [{"role": "user", "content": q}]) for q in QUESTIONS]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    sampling = SamplingSettings(temperature=0, max_new_tokens=tokens)
    found: list[list[int]] = engine.decode(ids, [0] * len(ids), sampling)
    return found
