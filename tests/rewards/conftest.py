"""A tiny sequence classifier, a real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_classifier(labels=1, template=True, pad=True)`: the folder of a Qwen2 of a few thousand parameters."""

    def make(labels: int = 1, template: bool = True, pad: bool = True) -> Path:
        import torch
        from transformers import Qwen2Config, Qwen2ForSequenceClassification

        from openr1.models.scratch import init_model
        from openr1.models.settings import ModelSettings, TokenizerSettings
        from openr1.models.source import load_tokenizer

        settings = ModelSettings(
            source="scratch", architecture="qwen2", layers=1, hidden=32, ffn=64, heads=2, kv_heads=1, context=128,
            dtype="float32", tie_embeddings=True, rope_theta=10000.0,
            tokenizer=TokenizerSettings(kind="char", words=["<think>", "</think>", "<answer>", "</answer>"]),
        )  # fmt: skip
        base = init_model(settings, 0, tmp_path_factory.mktemp("base") / "model")
        tokenizer = load_tokenizer(base)
        if not template:
            tokenizer.chat_template = None
        if not pad:
            tokenizer.pad_token = None
        torch.manual_seed(3)
        config = Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=64, max_position_embeddings=128, num_labels=labels,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        if labels == 2:
            config.id2label = {0: "unsafe", 1: "safe"}
            config.label2id = {"unsafe": 0, "safe": 1}
        folder = tmp_path_factory.mktemp("classifier") / "model"
        model = Qwen2ForSequenceClassification(config)
        torch.nn.init.normal_(model.score.weight, std=1.0)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def classifier(make_classifier: Callable[..., Path]) -> Path:
    """A model of preferences with one output."""
    return make_classifier()
