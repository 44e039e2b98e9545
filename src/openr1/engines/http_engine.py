"""The engine for servers that speak the OpenAI protocol: a window of requests in flight over a pool of endpoints.

`generate` runs an asyncio loop in a thread of its own and hands completions over through a queue: each commit is what
has ended by then. However the iteration ends (done, an error, a consumer that stops), the thread ends, what is in
flight is cancelled and the sockets are closed.

What becomes of a request that fails:
- 429, and 503 with Retry-After: the endpoint gets the pause that it asks for. It is no try of the request.
- nobody listens: no try either; the endpoint's circuit opens after a few, its work goes to the others.
- another 5xx, a timeout, a broken connection or reply: tried again with back-off; after `retries` more tries the
  failure is recorded as the row's.
- 400, 413, 422: the row's failure, recorded; held back until an endpoint has answered another request after it, so
  that a setting which no endpoint takes stops the run instead of failing every row.
- a key or a model that is refused: a UserError. No endpoint works for `max_wait_s`: an OutsideError.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from openr1.engines.base import Key, Request, check_requests
from openr1.engines.http_run import Run
from openr1.engines.service import Service
from openr1.engines.settings import SamplingSettings
from openr1.errors import UserError
from openr1.records import Completion


class HTTPEngine(Service):
    """An engine for endpoints that serve one model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._runs: set[Run] = set()

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "model": self.model}

    def close(self) -> None:
        """Cancel everything that is in flight."""
        for run in list(self._runs):
            run.stop()

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key] = (),
        prefill: str | None = None,
    ) -> Iterator[list[Completion]]:
        """Completions as they end. `done` is asked in another thread, right before a request starts.

        Raises:
            UserError: empty prompts and double keys at once; a refused key, model or setting at the first refusal.
            OutsideError: no endpoint has worked for `max_wait_s`.
        """
        check_requests(requests)
        self._check_lengths(requests, sampling, done, prefill)
        return self._commits(requests, sampling, done, prefill)

    def _check_lengths(
        self, requests: Sequence[Request], sampling: SamplingSettings, done: Container[Key], prefill: str | None
    ) -> None:
        """Refuse what does not fit into the context, where the endpoints say how long it is."""
        if self.context is None:
            return
        room = self.context - sampling.max_new_tokens
        if room <= 0:
            raise UserError(
                f"max_new_tokens {sampling.max_new_tokens} leaves no room in the context of {self.context} tokens "
                "that the endpoints serve; lower it"
            )
        if self.render is None or self.count is None:
            return
        lengths: dict[str, int] = {}
        for request in requests:
            if request.prompt_id not in lengths and request.key not in done:
                prompt = self.render(request.messages, prefill)
                lengths[request.prompt_id] = self.count(prompt) if isinstance(prompt, str) else len(prompt)
        over = [p for p, length in lengths.items() if length > room]
        if over:
            longest = max(over, key=lengths.__getitem__)
            raise UserError(
                f"{len(over)} of {len(lengths)} prompts do not fit: the longest ({longest}) has {lengths[longest]} "
                f"tokens, with max_new_tokens {sampling.max_new_tokens} that is beyond the context of {self.context}; "
                "lower max_new_tokens, or shorten the prompts"
            )

    def _commits(
        self, requests: Sequence[Request], sampling: SamplingSettings, done: Container[Key], prefill: str | None
    ) -> Iterator[list[Completion]]:
        run = Run(self, requests, sampling, done, prefill)
        self._runs.add(run)
        try:
            yield from run.commits()
        finally:
            run.stop()
            self._runs.discard(run)
