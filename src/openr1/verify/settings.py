"""Settings of the judge verifier."""

from __future__ import annotations

from typing import ClassVar

from openr1.settings import Settings


class JudgeSettings(Settings):
    """An OpenAI-compatible endpoint that grades. `url` ends in `/v1`; the key is read from `api_key_env` at use."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset({"url", "api_key_env", "timeout", "concurrency", "retries"})

    url: str
    model: str
    api_key_env: str = "OPENR1_JUDGE_API_KEY"
    rubric: str | None = None
    max_tokens: int = 16
    max_answer_chars: int = 2000
    timeout: float = 60.0
    concurrency: int = 8
    retries: int = 2
