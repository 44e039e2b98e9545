"""Endpoints that serve one model, and how they are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from openr1.engines import wire
from openr1.engines.endpoints import Watch
from openr1.records import Message

Render = Callable[[Sequence[Message], str | None], "str | list[int]"]


@dataclass(eq=False)
class Service:
    """What requests go to.

    Args:
        endpoints: base URLs, each up to and with `/v1`.
        model: the name that they serve.
        name: what `identity` calls the engine.
        api: `chat` sends messages; `completions` sends what `render(messages, prefill)` makes of them, text or ids.
        count: tokens of a text, for endpoints that do not count.
        decode: makes the text of a completion from its token ids, for endpoints that are asked to return them.
        retries: tries after the first for what is an endpoint's fault.
        extra: fields merged into every request; null takes one out.
        watch: asked for every endpoint several times a second, in the engine's thread: why the server behind it is
            gone for good, or None. An endpoint that is gone gets no more work.
        context: tokens of prompt and reply together that the endpoints serve, where it is known.
    """

    endpoints: Sequence[str]
    model: str
    _: KW_ONLY
    name: str = "openai"
    api: wire.API = "chat"
    render: Render | None = None
    count: Callable[[str], int] | None = None
    decode: wire.Decode | None = None
    api_key: str | None = None
    concurrency: int = 64
    request_timeout_s: float = 3600
    retries: int = 8
    max_wait_s: float = 600
    extra: Mapping[str, Any] = field(default_factory=dict)
    watch: Watch | None = None
    context: int | None = None
    repeats: Counter[str] = field(default_factory=Counter, init=False)
    """Why requests were tried again."""

    def __post_init__(self) -> None:
        if self.api == "completions" and self.render is None:
            raise ValueError("api completions needs a way to render prompts")
