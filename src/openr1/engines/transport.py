"""HTTP to one endpoint: a session for hundreds of connections, one try of a request, and the probe before the first.

aiohttp, because its pool costs the same whether ten or a thousand requests are in flight; httpx's takes time that
grows with them. Replies are not streamed: at hundreds of requests a Python client would be the bottleneck. So a
connection is silent for as long as a reply takes; TCP keep-alive tells a host that is gone from one that is busy.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from openr1.engines import wire

CONNECT_TIMEOUT_S, PROBE_TIMEOUT_S = 10.0, 10.0
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 4}  # a host that is gone is known in 140 s


class NotSent(Exception):
    """Nobody listens at the endpoint: the request has not left."""


class TryFailed(Exception):
    """The endpoint got the request and failed at it: an error of its own, silence, a broken reply."""


class Refusal(Exception):
    """An HTTP status that is no success; `wait` is what Retry-After says, in seconds."""

    def __init__(self, status: int, message: str, wait: float | None = None) -> None:
        self.status, self.wait = status, wait
        self.kind = wire.classify(status, message, wait is not None)
        super().__init__(f"HTTP {status}" + (f": {message}" if message else ""))


def mend(endpoint: str, refusal: Refusal, model: str) -> str:
    """What the user can do about a refusal that every request will get."""
    match refusal.kind:
        case "key":
            return f"{endpoint}: refuses the key ({refusal}); set the variable that engine.api_key_env names"
        case "quota":
            return f"{endpoint}: has no quota left for this key ({refusal}); what is committed is kept"
        case "prefill":
            return (
                f"{endpoint}: knows no prefill ({refusal}); use engine.api=completions with the recipe's model, "
                "or drop `prefill`"
            )
    return f"{endpoint}: does not serve {model!r} ({refusal}); set engine.model and engine.base_url (it ends in /v1)"


def _socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = info[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # Linux; elsewhere the system's own intervals hold
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def open_session(api_key: str | None) -> aiohttp.ClientSession:
    """A session without a limit on connections; the caller limits the requests in flight."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, socket_factory=_socket)
    return aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar())


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for `url`; none for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)


async def post(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], timeout_s: float, secret: str | None
) -> bytes:
    """One try; the body of a success.

    Raises:
        NotSent, TryFailed, Refusal.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
    return await _ask(session, "POST", url, timeout, secret, body)


async def get(session: aiohttp.ClientSession, url: str, secret: str | None) -> bytes:
    """A short question; raises as `post` does."""
    return await _ask(session, "GET", url, aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S), secret)


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    timeout: aiohttp.ClientTimeout,
    secret: str | None,
    body: Mapping[str, Any] | None = None,
) -> bytes:
    try:
        # a redirect is not followed: it would take the key to another host
        async with session.request(
            method, url, json=body, timeout=timeout, proxy=proxy_for(url), allow_redirects=False
        ) as response:
            data = await response.read()
            status, wait = response.status, wire.retry_after(response.headers.get("Retry-After"))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as e:
        raise NotSent(_reason(e)) from e
    except TimeoutError as e:
        raise TryFailed(f"no answer within {timeout.total:g} s") from e
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as e:
        raise TryFailed(_reason(e)) from e
    if status < 300:
        return data
    raise Refusal(status, wire.error_message(data, secret), wait)


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection within the time limit"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return f"cannot connect: {os.strerror(number) if number and number > 0 else error.os_error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the reply was cut off"
    return f"the connection broke ({getattr(error, 'strerror', None) or type(error).__name__})"
