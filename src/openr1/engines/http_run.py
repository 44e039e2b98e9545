"""One call of `HTTPEngine.generate`: the thread, its asyncio loop, the window of requests and what becomes of each."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from openr1.engines import transport, wire
from openr1.engines.base import Key, Request
from openr1.engines.endpoints import Endpoint, EndpointPool, backoff
from openr1.engines.http_rows import Rows
from openr1.engines.service import Service
from openr1.engines.settings import SamplingSettings
from openr1.errors import OpenR1Error, UserError
from openr1.records import Completion

logger = logging.getLogger("openr1")
FEWEST_HELD = 10  # rows refused before a refusal is believed to be everybody's


class Again(Exception):
    """A try that is to be repeated; `what` is its kind, for counting, `is_try` whether it was the request's."""

    def __init__(self, why: str, what: str, is_try: bool = True) -> None:
        self.what, self.is_try = what, is_try
        super().__init__(why)


@dataclass(eq=False)
class Asked:
    """A request on its way; `due` is when it may be tried next, on the monotonic clock."""

    request: Request
    due: float = 0.0
    tries: int = 0
    last: Endpoint | None = None

    def __lt__(self, other: Asked) -> bool:
        return self.due < other.due


class Run:
    """One call of `generate`."""

    def __init__(
        self,
        service: Service,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key],
        prefill: str | None,
    ) -> None:
        self.service, self.requests, self.done = service, requests, done
        self.rows = Rows(service, sampling, prefill)
        self.window = min(service.concurrency, len(requests))
        self.held: list[Completion] = []  # refused rows that nothing has vouched for yet
        self.later: list[Asked] = []  # a heap of what is to be tried again
        self.flying = 0
        self.answered = False
        self._ended: queue.SimpleQueue[Completion | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._in_thread, name=f"openr1-{service.name}", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    # -- the consumer's side
    def commits(self) -> Iterator[list[Completion]]:
        self._thread.start()
        ended = False
        while not ended:
            first = self._ended.get()
            commit = [] if first is None else [first]
            ended = first is None
            while not ended and not self._ended.empty():
                row = self._ended.get()
                ended = row is None
                commit += [] if row is None else [row]
            if commit:
                yield commit
        if self._error is not None and not self._stopping.is_set():
            raise self._error

    def stop(self) -> None:
        """Cancel what is in flight and wait for the thread to end."""
        self._stopping.set()
        loop, main = self._loop, self._main
        if loop is not None and main is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(main.cancel)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    # -- the loop's side
    def _in_thread(self) -> None:
        try:
            asyncio.run(self._begin())
        except asyncio.CancelledError:
            pass
        except BaseException as e:  # handed over, and raised where the consumer is
            self._error = _single(e)
        finally:
            self._ended.put(None)

    async def _begin(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopping.is_set() or not self.requests:
            return
        service = self.service
        pool = EndpointPool(service.endpoints, service.max_wait_s, service.watch)
        async with transport.open_session(service.api_key) as session, asyncio.TaskGroup() as group:
            keeper = group.create_task(pool.look_after(lambda url: self._probe(session, url)))
            feed = iter(self.requests)
            workers = [group.create_task(self._work(session, pool, feed)) for _ in range(self.window)]
            await asyncio.wait(workers)
            keeper.cancel()
        self._settle()

    async def _probe(self, session: aiohttp.ClientSession, url: str) -> str | None:
        """Why the endpoint does not answer, or None."""
        try:
            await transport.get(session, f"{url}/models", self.service.api_key)
        except transport.Refusal as e:
            return str(e) if e.status >= 500 else None
        except (transport.NotSent, transport.TryFailed) as e:
            return str(e)
        return None

    async def _work(self, session: aiohttp.ClientSession, pool: EndpointPool, feed: Iterator[Request]) -> None:
        """One place of the window: a try after the other. A request that waits for its next try takes no place."""
        while (asked := await self._next(feed)) is not None:
            if asked.request.key in self.done:
                continue
            self.flying += 1
            try:
                completion = await self._try(session, pool, asked)
            finally:
                self.flying -= 1
            if completion is not None:
                self._ended.put(completion)

    async def _next(self, feed: Iterator[Request]) -> Asked | None:
        """What is due to be tried again, before what is new; None when nothing is left to start."""
        while True:
            late = self.later[0].due - time.monotonic() if self.later else math.inf
            if late <= 0:
                return heapq.heappop(self.later)
            if len(self.later) < self.window and self._has_room():
                for i, request in enumerate(feed):
                    if request.key not in self.done:
                        return Asked(request)
                    if i % 1000 == 999:  # a long stretch of what is done must not keep the loop from its sockets
                        await asyncio.sleep(0)
                if not self.later:
                    return None
            await asyncio.sleep(min(max(late, 0.0), 0.05))

    def _has_room(self) -> bool:
        """Whether a new request may start: not while the consumer is far behind, nor while all of late were refused.

        Raises:
            UserError: all of late were refused, and nothing that could vouch for them is under way.
        """
        if len(self.held) >= max(FEWEST_HELD, self.window):
            if not self.flying and not self.later:
                raise self._all_refused()
            return False
        return self._ended.qsize() <= 4 * self.window

    async def _try(self, session: aiohttp.ClientSession, pool: EndpointPool, asked: Asked) -> Completion | None:
        """The completion of one request; None where it is to be tried again, or is a refusal that is held back."""
        request = asked.request
        asked.last = await pool.acquire(asked.last)
        began = time.monotonic()
        try:
            reply = await self._once(session, pool, asked.last, self.rows.body(request))
            return self.rows.completion(request, reply, time.monotonic() - began)
        except transport.Refusal as e:
            self.held.append(self.rows.failure(request, f"{asked.last.name}: {e}", time.monotonic() - began))
        except Again as again:
            self.service.repeats[again.what] += 1
            asked.tries += again.is_try
            if asked.tries > self.service.retries:
                why = f"{asked.last.name}: {again} ({asked.tries} tries)"
                return self.rows.failure(request, why, time.monotonic() - began)
            # what the endpoint is to blame for waits for an endpoint, not for a time
            asked.due = time.monotonic() + (backoff(asked.tries - 1) if again.is_try else 0.0)
            heapq.heappush(self.later, asked)
        finally:
            pool.release(asked.last)
        return None

    async def _once(
        self, session: aiohttp.ClientSession, pool: EndpointPool, endpoint: Endpoint, body: Mapping[str, Any]
    ) -> wire.Reply:
        """One try at one endpoint.

        Raises:
            Again: it is to be repeated. Refusal: this request can never succeed. UserError: none can.
        """
        service = self.service
        url = f"{endpoint.url}/{wire.PATHS[service.api]}"
        try:
            data = await transport.post(session, url, body, service.request_timeout_s, service.api_key)
            reply = wire.parse_reply(data, service.api, self.rows.prefill, service.decode)
        except transport.NotSent as e:
            pool.failed(endpoint, str(e))
            raise Again(str(e), "cannot connect", is_try=False) from e
        except (transport.TryFailed, wire.BrokenReply) as e:
            pool.failed(endpoint, str(e))
            raise Again(str(e), str(e).partition(" (")[0]) from e
        except transport.Refusal as e:
            self._refused(pool, endpoint, e)
            raise
        pool.worked(endpoint)
        self._vouch()
        return reply

    # -- refusals
    def _refused(self, pool: EndpointPool, endpoint: Endpoint, refusal: transport.Refusal) -> None:
        """Returns where the refusal is this request's own.

        Raises:
            Again: it is a passing one. UserError: no request can succeed before the user mends something.
        """
        kind = refusal.kind
        if kind == "model" and endpoint.answered:  # it has served this model: this one row, or a passing fault
            kind = "row" if refusal.status == 403 else "repeat"
        if kind == "row":
            pool.refused(endpoint)
        elif kind == "busy":
            pool.busy(endpoint, refusal.wait)
            raise Again(str(refusal), f"HTTP {refusal.status}", is_try=False) from refusal
        elif kind == "repeat":
            pool.failed(endpoint, str(refusal))
            raise Again(str(refusal), f"HTTP {refusal.status}") from refusal
        else:
            raise UserError(transport.mend(endpoint.name, refusal, self.service.model)) from refusal

    def _vouch(self) -> None:
        """An endpoint has answered a request: what was refused before it was refused for the row's sake."""
        self.answered = True
        for failure in self.held:
            self._ended.put(failure)
        self.held.clear()

    def _settle(self) -> None:
        """At the end: believe the refusals that are left, unless nothing else ever came back."""
        if self.held and not self.answered and len(self.held) >= min(FEWEST_HELD, len(self.requests)):
            raise self._all_refused()
        self._vouch()
        if self.service.repeats:
            most = ", ".join(f"{n} × {why}" for why, n in self.service.repeats.most_common(5))
            logger.info("%d tries were repeated: %s", self.service.repeats.total(), most)

    def _all_refused(self) -> UserError:
        reason, n = Counter(c.error or "" for c in self.held).most_common(1)[0]
        return UserError(
            f"{len(self.held)} requests were refused and none of them answered; {n} times: {reason}; "
            "change what the endpoint does not take (sampling, max_new_tokens, engine.extra), nothing was recorded"
        )


def _single(error: BaseException) -> BaseException:
    """The one error of a task group that says most: ours before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [_single(e) for e in error.exceptions]
    return next((e for e in found if isinstance(e, OpenR1Error)), found[0])
