"""A preference model: a sequence classifier that rates the reply to a conversation."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from openr1.errors import UserError, did_you_mean
from openr1.models.source import classifier_problems, load_tokenizer, model_folder
from openr1.rewards.preference import Asked, report_failures
from openr1.rewards.settings import ClassifierSettings

logger = logging.getLogger("openr1")

REPLY = "{the reply goes here}"  # rendered in the place of the reply: templates cut reasoning out of a real one


class Classifier:
    """A classifier that is fetched and looked at when it is opened, and loaded when it is first asked.

    A reply that the model fails on (no memory, a number that is not finite) has no score.
    """

    def __init__(self, settings: ClassifierSettings, label: str) -> None:
        self.settings, self.label = settings, label
        self.folder = model_folder(settings.source, settings.revision)
        problems = classifier_problems(self.folder)
        if problems:
            raise UserError(*(f"reward part {label!r}: {p}" for p in problems))
        self.tokenizer = load_tokenizer(self.folder)
        self.tokenizer.padding_side = "right"
        self.index = self._index()
        self._model: Any = None

    def _index(self) -> int:
        """Which output is the score."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.folder)
        names = {int(i): str(name) for i, name in config.id2label.items()}
        label = self.settings.label
        if label is None:
            if config.num_labels != 1:
                raise UserError(
                    f"reward part {self.label!r}: {self.settings.source} tells {config.num_labels} classes apart; "
                    f"name the one to reward as scorer.label: {', '.join(names.values())}"
                )
            return 0
        found = [i for i, name in names.items() if label in (i, name)]
        if not found:
            near = did_you_mean(str(label), names.values())
            raise UserError(f"reward part {self.label!r}: {self.settings.source} has no class {label!r}; {near}")
        return found[0]

    @property
    def model(self) -> Any:
        """The model, on its device; parts that ask the same one share it."""
        if self._model is None:
            self._model = load_classifier(self.folder, self.settings.device != "cpu")
        return self._model

    def score(self, asked: Sequence[Asked]) -> list[float | None]:
        """The score of each reply; rows are batched by length and come back in order."""
        rows = [self._encode(messages, reply) for messages, reply in asked]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
        pad = self.tokenizer.pad_token_id
        padded = pad is not None and pad == self.model.config.pad_token_id
        size = self.settings.batch_size if padded else 1  # the model finds the last token by the padding behind it
        scores: list[float | None] = [None] * len(rows)
        failures: list[str] = []
        for start in range(0, len(order), size):
            part = order[start : start + size]
            try:
                values = self._forward([rows[i] for i in part])
            except RuntimeError as error:  # out of memory, a device that failed: ours, not the model's that is trained
                failures += [f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"] * len(part)
                continue
            for i, value in zip(part, values, strict=True):
                scores[i] = value if math.isfinite(value) else None
                failures += [] if math.isfinite(value) else [f"the score is {value}"]
        report_failures(self.label, failures)
        return scores

    def _encode(self, messages: Sequence[Any], reply: str) -> dict[str, list[int]]:
        """Conversation and reply as the model's template renders them, or as a pair of texts; the last tokens."""
        if self.tokenizer.chat_template:
            turns = [*(dict(m) for m in messages), {"role": "assistant", "content": REPLY}]
            text = str(self.tokenizer.apply_chat_template(turns, tokenize=False)).replace(REPLY, reply)
            encoded = self.tokenizer(text, add_special_tokens=False)
        else:
            encoded = self.tokenizer("\n".join(m["content"] for m in messages), reply)
        limit = self.settings.max_length or getattr(self.model.config, "max_position_embeddings", None)
        return {name: list(ids)[-limit:] if limit else list(ids) for name, ids in encoded.items()}

    def _forward(self, rows: Sequence[dict[str, list[int]]]) -> list[float]:
        import torch

        columns: Any = {name: [row[name] for row in rows] for name in rows[0]}
        inputs: Any
        if len(rows) > 1:
            inputs = self.tokenizer.pad(columns, return_tensors="pt")
        else:  # which a model without a padding token can do too
            inputs = {name: torch.tensor(ids) for name, ids in columns.items()}
        with torch.inference_mode():
            logits_BC = self.model(**{k: v.to(self.model.device) for k, v in inputs.items()}).logits.float()
        if self.settings.score == "probability":
            one = logits_BC.shape[1] == 1
            logits_BC = logits_BC.sigmoid() if one else logits_BC.softmax(-1)
        return [float(value) for value in logits_BC[:, self.index]]


@lru_cache(maxsize=4)
def load_classifier(folder: Path, gpu: bool) -> Any:
    """The classifier of a folder, on a GPU where there is one and `gpu`; whole, on every process.

    Raises UserError where weights are missing: transformers would fill them with noise and only say so in the log.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    gpu = gpu and torch.cuda.is_available()
    dtype: Any = "auto" if gpu else torch.float32
    with _whole(), torch.random.fork_rng(devices=[]):
        model, info = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    if info["missing_keys"]:
        raise UserError(f"{folder}: has no weights for {', '.join(sorted(info['missing_keys'])[:3])}")
    return model.to("cuda" if gpu else "cpu").eval()


@contextmanager
def _whole() -> Iterator[None]:
    """Load a model whole inside, also where transformers would take it apart for ZeRO-3."""
    from transformers.integrations import deepspeed

    if not deepspeed.is_deepspeed_zero3_enabled():
        yield
        return
    reference: Any = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed.set_hf_deepspeed_config(reference())
