"""A real sequence classifier, made small: a model of preferences for the tests of every room."""

from __future__ import annotations

from pathlib import Path


def tiny_classifier(folder: Path, labels: int = 1, template: bool = True, pad: bool = True) -> Path:
    """The folder of a Qwen2 of a few thousand parameters that scores texts."""
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
    base = init_model(settings, 0, folder / "base")
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
    found = folder / "classifier"
    model = Qwen2ForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(found)
    tokenizer.save_pretrained(found)
    return found
