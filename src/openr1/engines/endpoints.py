"""Which of several endpoints the next request goes to: the least loaded of those that work.

An endpoint that fails `FAILURES` times in a row, and as often as it has requests in flight, is taken out of use (its
circuit is opened), probed with growing pauses, and tried with a single request once a probe succeeds. One that asks
for a pause (429) gets it, alone. When none has worked for `max_wait_s`, or all are gone for good, that is an
OutsideError.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from openr1.errors import OutsideError

logger = logging.getLogger("openr1")

FAILURES = 5  # in a row, before an endpoint is taken out of use
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
SETTLE_S = 5.0  # a trial request that has run so long without failing shows that the endpoint works
SILENCE_S = 15.0  # an endpoint with work and without an answer for so long is asked whether it lives
TICK_S = 0.1

Probe = Callable[[str], Awaitable[str | None]]
Watch = Callable[[str], str | None]


def shown(url: str) -> str:
    """A URL without the user and password that it may carry."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def backoff(tries: int, first: float = FIRST_PAUSE_S, longest: float = LONGEST_PAUSE_S) -> float:
    """Seconds before try number `tries` + 1: doubling, drawn between the half and the whole, so that clients part."""
    return min(longest, first * 2.0 ** min(tries, 30)) * random.uniform(0.5, 1.0)


@dataclass
class Endpoint:
    """One base URL and what is known of it. Times are seconds of the monotonic clock."""

    url: str
    state: Literal["closed", "open", "trial"] = "closed"
    in_flight: int = 0
    answered: int = 0
    failures: int = 0  # in a row
    reopened: int = 0  # in a row
    refusals: int = 0  # 429 in a row
    probe_at: float = 0.0
    trial_at: float | None = None  # when the one request of a trial began
    paused_until: float = 0.0
    heard_at: float = 0.0  # the last sign of life
    trouble_since: float | None = None
    silent_since: float | None = None
    gone: str | None = None
    why: str = ""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self.name = shown(self.url)

    def usable(self, now: float) -> bool:
        if self.gone or now < self.paused_until or self.state == "open":
            return False
        return self.state == "closed" or self.trial_at is None or now - self.trial_at > SETTLE_S

    def hopeless(self, now: float, limit: float) -> bool:
        """Whether it has not worked for `limit` seconds, and nothing that it may yet answer is under way."""
        if self.gone:
            return True
        if self.trouble_since is None or now - self.trouble_since < limit:
            return False
        silent = self.silent_since is not None and now - self.silent_since >= limit
        return silent or (self.in_flight == 0 and (self.state != "closed" or now < self.paused_until))


class EndpointPool:
    """The endpoints of one run; used inside one asyncio loop."""

    def __init__(self, urls: Sequence[str], max_wait_s: float, watch: Watch | None = None) -> None:
        now = time.monotonic()
        self.endpoints = [Endpoint(u, heard_at=now) for u in dict.fromkeys(u.rstrip("/") for u in urls)]
        self.max_wait_s, self.watch = max_wait_s, watch
        self._changed = asyncio.Condition()

    # -- one request
    async def acquire(self, avoid: Endpoint | None = None) -> Endpoint:
        """Wait for an endpoint that can be used; `avoid` only where there is no other. Release it afterwards."""
        async with self._changed:
            while True:
                now = time.monotonic()
                usable = [e for e in self.endpoints if e.usable(now)]
                if usable:
                    chosen = min(usable, key=lambda e: (e is avoid, e.in_flight, e.heard_at))
                    chosen.in_flight += 1
                    if chosen.state == "trial":
                        chosen.trial_at = now
                    return chosen
                await self._changed.wait()

    def release(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1

    # -- how it went
    def worked(self, endpoint: Endpoint) -> None:
        """It has answered a request."""
        if endpoint.state != "closed":
            logger.info("%s answers again", endpoint.name)
        endpoint.state, endpoint.trial_at = "closed", None
        endpoint.failures = endpoint.refusals = endpoint.reopened = 0
        endpoint.trouble_since = endpoint.silent_since = None
        endpoint.heard_at = time.monotonic()
        endpoint.answered += 1

    def refused(self, endpoint: Endpoint) -> None:
        """It lives and refuses one request for what it asks; that says nothing of others."""
        endpoint.heard_at, endpoint.trial_at = time.monotonic(), None

    def failed(self, endpoint: Endpoint, why: str) -> None:
        """It has not answered as it should; enough of that in a row opens its circuit.

        Errors come back in milliseconds, replies in minutes: five errors in a row are nothing beside a hundred
        requests that are under way.
        """
        endpoint.failures += 1
        endpoint.why = why
        self._trouble(endpoint)
        if endpoint.state == "trial" or (
            endpoint.state == "closed" and endpoint.failures >= max(FAILURES, endpoint.in_flight)
        ):
            self._open(endpoint)

    def busy(self, endpoint: Endpoint, wait: float | None) -> None:
        """It asks for a pause of `wait` seconds (None: it did not say how long)."""
        now = time.monotonic()
        if wait is None:
            if now >= endpoint.paused_until:  # of the many refusals of one moment the first counts
                endpoint.refusals += 1
            wait = backoff(endpoint.refusals)
        endpoint.why = "it asks for a pause (HTTP 429)"
        endpoint.paused_until = max(endpoint.paused_until, now + wait)
        endpoint.heard_at = now
        endpoint.trial_at = None
        self._trouble(endpoint)

    def _trouble(self, endpoint: Endpoint) -> None:
        if endpoint.trouble_since is None:
            endpoint.trouble_since = time.monotonic()

    def _open(self, endpoint: Endpoint) -> None:
        if endpoint.reopened == 0:
            others = (
                " its work goes to the others" if len(self.endpoints) > 1 else f" waiting up to {self.max_wait_s:g} s"
            )
            logger.warning("%s: %d failures in a row (%s);%s", endpoint.name, endpoint.failures, endpoint.why, others)
        endpoint.state, endpoint.trial_at = "open", None
        endpoint.probe_at = time.monotonic() + backoff(endpoint.reopened)
        endpoint.reopened += 1

    # -- in the background
    async def look_after(self, probe: Probe) -> None:
        """Probe what is out of use or silent, let waiting requests look again, and give up when nothing works.

        Raises:
            OutsideError: nothing has worked for `max_wait_s`, or all endpoints are gone.
        """
        probing: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                now = time.monotonic()
                for i, endpoint in enumerate(self.endpoints):
                    if self.watch is not None and not endpoint.gone:
                        endpoint.gone = self.watch(endpoint.url)
                    if (i not in probing or probing[i].done()) and self._wants_probe(endpoint, now):
                        probing[i] = asyncio.create_task(self._probe(endpoint, probe))
                if all(e.hopeless(now, self.max_wait_s) for e in self.endpoints):
                    raise OutsideError(self._obituary(now))
                if any(e.usable(now) for e in self.endpoints):
                    async with self._changed:
                        self._changed.notify_all()
                await asyncio.sleep(TICK_S)
        finally:
            for task in probing.values():
                task.cancel()

    def _wants_probe(self, endpoint: Endpoint, now: float) -> bool:
        if endpoint.gone:
            return False
        if endpoint.state == "open":
            return now >= endpoint.probe_at
        return endpoint.in_flight > 0 and now - endpoint.heard_at > SILENCE_S

    async def _probe(self, endpoint: Endpoint, probe: Probe) -> None:
        why = await probe(endpoint.url)
        now = time.monotonic()
        endpoint.heard_at = now  # or the next probe would follow at once
        if why is None:
            endpoint.silent_since = None
            if endpoint.state == "open":
                endpoint.state, endpoint.trial_at = "trial", None
            return
        endpoint.why = why
        self._trouble(endpoint)
        endpoint.silent_since = endpoint.silent_since or now
        if endpoint.state == "open":
            self._open(endpoint)
        else:
            self.failed(endpoint, why)

    def _obituary(self, now: float) -> str:
        lines = []
        for e in self.endpoints:
            since = "" if e.gone or e.trouble_since is None else f" for {now - e.trouble_since:.0f} s"
            lines.append(f"{e.name}: no answer{since} ({e.gone or e.why})")
        return "; ".join(lines) + "; what is committed is kept, the same command goes on when an endpoint answers"
