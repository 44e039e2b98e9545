"""What is asked for a request, and the row that it ends as."""

from __future__ import annotations

import logging
from typing import Any

from openr1.engines import wire
from openr1.engines.base import Request
from openr1.engines.service import Service
from openr1.engines.settings import SamplingSettings
from openr1.records import Completion
from openr1.store import now

logger = logging.getLogger("openr1")


class Rows:
    """The requests of one call of `generate`, as bodies on the way out and as completions on the way back."""

    def __init__(self, service: Service, sampling: SamplingSettings, prefill: str | None) -> None:
        self.service, self.sampling, self.prefill = service, sampling, prefill
        self.uncounted = False  # whether an endpoint has been met that does not count tokens

    def body(self, request: Request) -> dict[str, Any]:
        """What is posted for a request."""
        service = self.service
        prompt = service.render(request.messages, self.prefill) if service.render is not None else None
        return wire.body(
            service.api,
            service.model,
            self.sampling,
            request.seed,
            request.messages,
            prompt,
            self.prefill,
            service.extra,
        )

    def completion(self, request: Request, reply: wire.Reply, seconds: float) -> Completion:
        made, read = reply.completion_tokens, reply.prompt_tokens
        if made is None or read is None:
            made, read = self._count(request, reply, made, read)
        return Completion(
            prompt_id=request.prompt_id,
            sample_index=request.sample_index,
            text=reply.text,
            finish_reason=reply.finish_reason,
            prompt_tokens=read,
            completion_tokens=made,
            seed=request.seed,
            error=reply.refused,
            seconds=seconds,
            finished_at=now(),
        )

    def _count(self, request: Request, reply: wire.Reply, made: int | None, read: int | None) -> tuple[int, int]:
        count = self.service.count
        if not self.uncounted:
            self.uncounted = True
            how = "they are counted here" if count else "they are recorded as 0"
            logger.warning("an endpoint does not say how many tokens it reads and writes; %s", how)
        if count is None:
            return made or 0, read or 0
        said = "\n".join(m["content"] for m in request.messages)
        new = reply.text.removeprefix(self.prefill or "")
        return count(new) if made is None else made, count(said) if read is None else read

    def failure(self, request: Request, why: str, seconds: float) -> Completion:
        key = (request.prompt_id, request.sample_index)
        return Completion(*key, "", "error", 0, 0, request.seed, error=why, seconds=seconds, finished_at=now())
