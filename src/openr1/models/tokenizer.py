"""The character tokenizer of scratch models: small, exact, and with every reasoning marker a single token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openr1.models.chat import EOS, PAD, START, template
from openr1.models.settings import TokenizerSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

ROLES = ("user", "assistant", "system")
CHARACTERS = [chr(i) for i in range(32, 127)] + ["\n"]


def vocabulary(settings: TokenizerSettings) -> dict[str, int]:
    """Token -> id: special tokens, words, role names, characters, then the 256 bytes where asked for."""
    words = list(dict.fromkeys([*settings.words, *ROLES]))
    tokens = [PAD, START, EOS, *words, *(c for c in CHARACTERS if c not in words)]
    if settings.byte_fallback:
        tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    return {token: i for i, token in enumerate(tokens)}


def build_tokenizer(settings: TokenizerSettings, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """A fast tokenizer that splits text into `settings.words` (longest first) and single characters.

    `chat_template` names a shipped template (default chatml). Padding is on the left, as generation needs it. With
    `byte_fallback` decode(encode(text)) == text for every text; without, unknown characters become the pad token.
    """
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=character_tokenizer(settings),
        eos_token=EOS,
        pad_token=PAD,
        unk_token=PAD,
        extra_special_tokens=[START],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = template(chat_template or "chatml")
    return fast


def character_tokenizer(settings: TokenizerSettings) -> Tokenizer:
    """The tokenizer itself, which needs neither transformers nor torch."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocab = vocabulary(settings)
    words = sorted((t for t in {*settings.words, *ROLES}), key=lambda w: (-len(w), w))
    # Whole pre-tokens are looked up first (ignore_merges), so a word is one token although there are no merges.
    model = models.BPE(vocab=vocab, merges=[], unk_token=PAD, byte_fallback=settings.byte_fallback, ignore_merges=True)
    tokenizer = Tokenizer(model)
    pattern = "|".join([*(re.escape(w) for w in words), "[\\s\\S]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
