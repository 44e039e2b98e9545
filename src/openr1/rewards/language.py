"""Rewards that look at words: repetition, and consistency of language.

The language of a piece of prose is decided by its Unicode script where that is enough (Chinese, Japanese, Korean,
Russian-like, Greek, Hebrew, Arabic-like, Thai, Devanagari) and by py3langid where several languages share a script.
What that cannot do: languages of one script are told apart by the sentence, not by the word, so a single foreign word
in an English sentence goes unseen; pieces under `MIN_WORDS` words follow their neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal

from openr1.errors import UserError, did_you_mean
from openr1.rewards.types import RewardBatch

MIN_WORDS = 5
_SCRIPT_OF = {
    "zh": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA"), "ko": ("HANGUL", "CJK"), "ru": ("CYRILLIC",),
    "uk": ("CYRILLIC",), "bg": ("CYRILLIC",), "sr": ("CYRILLIC",), "el": ("GREEK",), "he": ("HEBREW",),
    "ar": ("ARABIC",), "fa": ("ARABIC",), "ur": ("ARABIC",), "th": ("THAI",), "hi": ("DEVANAGARI",),
    "mr": ("DEVANAGARI",), "bn": ("BENGALI",), "ta": ("TAMIL",), "te": ("TELUGU",), "ka": ("GEORGIAN",),
    "hy": ("ARMENIAN",), "km": ("KHMER",), "lo": ("LAO",), "my": ("MYANMAR",), "am": ("ETHIOPIC",),
}  # fmt: skip
_ALONE = frozenset({"zh", "ja", "ko", "el", "he", "th", "bn", "ta", "te", "ka", "hy", "km", "lo", "my", "am"})
_LATIN = (
    "en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "nb", "fi", "pl", "cs", "sk", "sl", "hr", "hu", "ro",
    "tr", "vi", "id", "ms", "ca", "et", "lv", "lt", "is", "ga", "cy", "eu", "gl", "sq", "sw", "la", "eo", "tl", "af",
)  # fmt: skip
LANGUAGES = tuple(sorted({*_SCRIPT_OF, *_LATIN}))
_UNSPACED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"})

_DROP = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?(?:\$\$|\Z)|\$[^$\n]*\$|\\\[.*?(?:\\\]|\Z)|\\\(.*?(?:\\\)|\Z)"
    r"|</?[A-Za-z_]{1,20}>|https?://\S+|\\[A-Za-z]+",
    re.DOTALL,
)
_SENTENCE = re.compile(r"[.!?。！？;；\n]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


@cache
def script_of(character: str) -> str:
    """The Unicode script of a letter, by the first word of its name; CJK ideographs are `CJK`."""
    name = unicodedata.name(character, "")
    first = name.partition(" ")[0]
    return "CJK" if first in ("CJK", "IDEOGRAPHIC") else first


def words_of(text: str) -> list[tuple[str, str]]:
    """Words with their script; in scripts that write no spaces every character is a word."""
    found: list[tuple[str, str]] = []
    for match in _WORD.finditer(text):
        word = match.group()
        if word.isascii():
            found.append((word, "LATIN"))
            continue
        start = 0
        while start < len(word):
            script = script_of(word[start])
            end = start + 1
            if script not in _UNSPACED:
                while end < len(word) and script_of(word[end]) not in _UNSPACED:
                    end += 1
            found.append((word[start:end], script))
            start = end
    return found


def prose(text: str) -> str:
    """The text without maths, code, tags, links and LaTeX commands."""
    return _DROP.sub(" ", text)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages([code for code in identifier.labels if code in LANGUAGES])
    return identifier


def _language_of(sentence: str) -> str:
    return str(_identifier().classify(sentence)[0])


By = Literal["identifier", "script"]
BY: tuple[By, ...] = ("identifier", "script")


def target_share(text: str, language: str, by: By = "identifier") -> float | None:
    """Share of the words of `text`, outside maths and code, that are in `language`; None where there are no words.

    `by` script: a word is in the language if it is in its script, whatever its neighbours; for texts of single words,
    where no sentence says which language of a script they are.
    """
    scripts = _SCRIPT_OF.get(language, ("LATIN",))
    body = prose(text)
    if by == "script" and body.isascii():  # every word is Latin
        any_word = any(len(word := match.group()) > 1 or word in "aAI" for match in _WORD.finditer(body))
        return float("LATIN" in scripts) if any_word else None
    pieces = [words_of(piece) for piece in _SENTENCE.split(body)]
    pieces = [[w for w in piece if len(w[0]) > 1 or w[1] != "LATIN" or w[0] in "aAI"] for piece in pieces]
    total = sum(map(len, pieces))
    if not total:
        return None
    if by == "script":
        return sum(script in scripts for piece in pieces for _, script in piece) / total
    hits, pending = 0, 0
    verdict: bool | None = None
    for piece in pieces:
        inside = [word for word, script in piece if script in scripts]
        if language in _ALONE:
            hits += len(inside)
        elif len(inside) >= MIN_WORDS:
            verdict = _is_language(" ".join(inside), language)
            hits += (len(inside) + pending) if verdict else 0
            pending = 0
        elif verdict is None:
            pending += len(inside)
        elif verdict:
            hits += len(inside)
    if verdict is None and pending:  # nothing but short pieces: judge them together
        joined = " ".join(word for piece in pieces for word, script in piece if script in scripts)
        hits += pending if len(joined.split()) < MIN_WORDS or _is_language(joined, language) else 0
    if language == "zh" and any(script in ("HIRAGANA", "KATAKANA") for piece in pieces for _, script in piece):
        hits = sum(len(p) for p in pieces if all(script == "CJK" for _, script in p))
    return hits / total


def _is_language(sentence: str, language: str) -> bool:
    found = _language_of(sentence)
    return found == language or {found, language} <= {"no", "nb", "da"} or {found, language} <= {"id", "ms"}


def language_consistency(batch: RewardBatch, *, language: str = "en", by: By = "identifier") -> list[float | None]:
    """Share of target-language words in the completion, outside maths and code, in [0, 1].

    DeepSeek-R1 (arXiv 2501.12948), section 2.3.2. A completion without words earns 1, so on a task of bare digits the
    reward cannot vary: the first-batch diagnosis says so. `by`: see `target_share`.
    """
    if by not in BY:
        raise UserError(f"reward 'language_consistency': by is {by!r}: {did_you_mean(by, BY)}")
    if language not in LANGUAGES:
        raise UserError(
            f"reward 'language_consistency': unknown language {language!r}: {did_you_mean(language, LANGUAGES)}"
        )
    shares: Iterable[float | None] = (target_share(text, language, by) for text in batch.completions)
    return [1.0 if share is None else share for share in shares]


def repetition(batch: RewardBatch, *, ngram_size: int = 3, max_penalty: float = -1.0) -> list[float | None]:
    """`max_penalty` times the share of repeated n-grams; 0 for a text shorter than one n-gram.

    Demystifying Long Chain-of-Thought Reasoning (arXiv 2502.03373), appendix C.2; TRL's has tokens where this has
    words, or characters in scripts that write no spaces.
    """
    if ngram_size < 1:
        raise UserError(f"reward 'repetition': ngram_size is {ngram_size}; it must be at least 1")
    if max_penalty > 0:
        raise UserError(f"reward 'repetition': max_penalty is {max_penalty}; a penalty must not be positive")
    return [repeated_share(text, ngram_size) * max_penalty or 0.0 for text in batch.completions]


def repeated_share(text: str, n: int, characters: bool = False) -> float:
    """Share of the n-grams of a text that came before in it; 0 for a text shorter than one n-gram.

    Grams are of words (see `_units`), or of `characters`, white space left out.
    """
    units: Sequence[str] = "".join(text.casefold().split()) if characters else _units(text)
    if len(units) < n:
        return 0.0
    grams = list(zip(*(units[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams)


def _units(text: str) -> list[str]:
    """Words and symbols by white space; a run in an unspaced script falls into its characters."""
    if text.isascii():
        return text.casefold().split()
    units: list[str] = []
    for chunk in text.casefold().split():
        if chunk.isascii() or not any(c.isalpha() and script_of(c) in _UNSPACED for c in chunk):
            units.append(chunk)
        else:
            units.extend(chunk)
    return units
