"""Steps that judge a text by itself: graded, correct, form, language, length, repetition."""

from __future__ import annotations

from openr1.curate.base import PromptFilter, RowFilter
from openr1.curate.rows import Drop, Row
from openr1.curate.settings import (
    CorrectStep,
    FormatStep,
    GradedStep,
    LanguageStep,
    LengthStep,
    RepetitionStep,
)
from openr1.records import MASKED
from openr1.rewards.form import is_native, is_strict
from openr1.rewards.language import repeated_share, target_share

FORMS = {"strict": is_strict, "native": is_native}


class Graded(RowFilter[GradedStep]):
    """Law 1: what failed on our side is nobody's wrong answer, and leaves under a reason of its own."""

    needs_text = False

    def fault(self, row: Row) -> Drop | None:
        if row.error is not None:
            return Drop("request failed")
        return Drop(f"not graded: {row.status}") if row.status in MASKED else None


class Correct(RowFilter[CorrectStep]):
    """The reason is the verdict's status; masked rows say that they were not graded."""

    needs_text = False

    def fault(self, row: Row) -> Drop | None:
        if row.status in MASKED:
            return Drop(f"not graded: {row.status}")
        if row.status != "correct":
            return Drop(str(row.status))
        return Drop("cut at the token limit") if self.settings.complete and row.finish_reason != "stop" else None


class Format(RowFilter[FormatStep]):
    def fault(self, row: Row) -> Drop | None:
        form = self.settings.form
        return None if FORMS[form](row.text) else Drop(f"not of the {form} form")


def _foreign(settings: LanguageStep, text: str) -> Drop | None:
    share = target_share(text, settings.language, settings.by)
    return None if share is None or share >= settings.share else Drop(f"not in {settings.language}")


class Language(RowFilter[LanguageStep]):
    def fault(self, row: Row) -> Drop | None:
        return _foreign(self.settings, row.text)


class QuestionLanguage(PromptFilter[LanguageStep]):
    def fault(self, question: str) -> Drop | None:
        drop = _foreign(self.settings, question)
        return drop and Drop(f"question {drop.reason}")


def _out_of_bounds(what: str, n: int, low: int | None, high: int | None) -> Drop | None:
    if low is not None and n < low:
        return Drop(f"under {low:,} {what}")
    return Drop(f"over {high:,} {what}") if high is not None and n > high else None


class Length(RowFilter[LengthStep]):
    @property
    def needs_text(self) -> bool:  # type: ignore[override]
        return (self.settings.min_chars, self.settings.max_chars) != (None, None)

    def fault(self, row: Row) -> Drop | None:
        s = self.settings
        return _out_of_bounds("tokens", row.completion_tokens, s.min_tokens, s.max_tokens) or _out_of_bounds(
            "characters", len(row.text), s.min_chars, s.max_chars
        )


class QuestionLength(PromptFilter[LengthStep]):
    def fault(self, question: str) -> Drop | None:
        s = self.settings
        return _out_of_bounds("characters in the question", len(question), s.min_chars, s.max_chars)


class Repetition(RowFilter[RepetitionStep]):
    """Share of repeated n-grams (arXiv 2502.03373, appendix C.2, whose reward is `rewards.language.repetition`)."""

    def fault(self, row: Row) -> Drop | None:
        s = self.settings
        share = repeated_share(row.text, s.ngram_size, characters=s.grams_of == "characters")
        return Drop("repeats itself") if share > s.max_share else None
