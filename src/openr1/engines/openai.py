"""The engine `openai`: settings into an `HTTPEngine`, after every endpoint was asked what it serves."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openr1.engines import transport
from openr1.engines.endpoints import shown
from openr1.engines.http_engine import HTTPEngine
from openr1.engines.service import Render
from openr1.engines.settings import OpenAISettings
from openr1.errors import OutsideError, UserError, did_you_mean
from openr1.records import Message

if TYPE_CHECKING:
    import aiohttp
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("openr1")
PROBES, PROBE_PAUSE_S = 3, 0.25


def open_engine(settings: OpenAISettings, model_dir: Path | None, work: Path | None = None) -> HTTPEngine:
    """Probe the endpoints and open an engine on them.

    Args:
        model_dir: the folder of the model, for its tokenizer; api `completions` needs it.

    Raises:
        UserError: a URL, the key or the model's name is wrong. OutsideError: no endpoint answers.
    """
    urls = [_checked(url) for url in settings.base_url]
    key = _key(settings)
    render, count = None, None
    if model_dir is not None:
        count = token_counter(model_dir)
    if settings.api == "completions":
        if model_dir is None:
            raise UserError(
                "engine.api is completions, which renders the chat template here, but the stage has no model; "
                "give it one (model, or inputs.model), or use engine.api=chat"
            )
        render = local_render(model_dir)
    served = ask_what_is_served(urls, settings.model, key)
    return HTTPEngine(
        urls,
        served.model,
        api=settings.api,
        render=render,
        count=count,
        api_key=key,
        concurrency=settings.concurrency,
        request_timeout_s=settings.request_timeout_s,
        retries=settings.retries,
        max_wait_s=settings.max_wait_s,
        extra=settings.extra,
        context=served.context,
    )


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"engine.base_url {shown(url)!r} is no URL; write it as http://HOST:PORT/v1")
    return url.rstrip("/")


def _key(settings: OpenAISettings) -> str | None:
    key = os.environ.get(settings.api_key_env, "").strip() or None
    if key is None and settings.api_key_env != type(settings).model_fields["api_key_env"].default:
        raise UserError(f"engine.api_key_env names {settings.api_key_env}, which is not set; export the key in it")
    return key


# ------------------------------------------------------------------------------------------------------- tokenizers
@cache
def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from openr1.models.source import load_tokenizer

    return load_tokenizer(folder)


def token_counter(folder: Path) -> Callable[[str], int]:
    """Counts the tokens of a text with the folder's tokenizer, which is read at the first call."""
    return lambda text: len(_tokenizer(folder)(text, add_special_tokens=False)["input_ids"])


def local_render(folder: Path) -> Render:
    """Renders messages and prefill with the folder's chat template: text, or token ids where the server would put a
    second BOS before a text that has one.

    Raises:
        UserError: the tokenizer has no chat template, or its template no generation prompt.
    """
    from openr1.models.chat import render, render_whole

    tokenizer = _tokenizer(folder)
    if not tokenizer.chat_template:
        raise UserError("the model's tokenizer has no chat template; set model.chat_template (for instance chatml)")
    probe: list[Message] = [{"role": "user", "content": "1+1"}]
    if render(tokenizer, probe) == render_whole(tokenizer, probe):
        raise UserError(
            "the model's chat template has no generation prompt, so a reply would begin as another user turn; "
            "set model.chat_template to a shipped one (for instance chatml)"
        )
    adds = bool(tokenizer("")["input_ids"])

    def rendered(messages: Sequence[Message], prefill: str | None) -> str | list[int]:
        text = render(tokenizer, messages, prefill)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if adds else text

    return rendered


# ---------------------------------------------------------------------------------------------------------- probing
@dataclass(frozen=True)
class Served:
    """The model that the endpoints serve and, where they say so, the smallest of their contexts in tokens."""

    model: str
    context: int | None


def ask_what_is_served(urls: Sequence[str], model: str | None, key: str | None) -> Served:
    """Ask every endpoint for its list of models, before the first request.

    Raises:
        UserError: an endpoint refuses the key, or does not list `model`; or `model` is None and the endpoints do not
            list exactly one. OutsideError: none can be reached.
    """
    with ThreadPoolExecutor(1) as thread:  # asyncio.run does not work where a loop is running already
        answers = thread.submit(lambda: asyncio.run(_ask_all(urls, key))).result()
    names = [shown(u) for u in urls]
    refused = [
        transport.mend(shown(u), a, model or "a model")
        for u, a in zip(urls, answers, strict=True)
        if isinstance(a, transport.Refusal) and _is_final(u, a)
    ]
    if refused:
        raise UserError(*refused)
    silent = [f"{n}: {a}" for n, a in zip(names, answers, strict=True) if isinstance(a, str)]
    if len(silent) == len(urls):
        raise OutsideError("no endpoint answers: " + "; ".join(silent) + "; start the server, or mend engine.base_url")
    for line in silent:
        logger.warning("%s; the other endpoints are used until it answers", line)
    listed = {n: a for n, a in zip(names, answers, strict=True) if isinstance(a, dict)}
    return _choose(listed, model)


def _is_final(url: str, refusal: transport.Refusal) -> bool:
    """A refusal that no waiting mends. Some endpoints have no list of models (404)."""
    return refusal.status in (401, 402, 403) or (refusal.status == 404 and not url.endswith("/v1"))


def _choose(listed: dict[str, dict[str, int | None]], model: str | None) -> Served:
    problems = []
    for name, models in listed.items():
        if model is None and len(models) != 1:
            problems.append(f"{name}: serves {len(models)} models; set engine.model; {did_you_mean('', models)}")
        elif model is not None and model not in models:
            problems.append(f"{name}: does not serve {model!r}; set engine.model; {did_you_mean(model, models)}")
    found = {model} if model is not None else {m for models in listed.values() for m in models}
    if not problems and len(found) > 1:
        problems.append(
            f"the endpoints serve different models ({', '.join(sorted(map(str, found)))}); one store is for one"
        )
    if not problems and not found:
        problems.append("no endpoint lists its models; set engine.model")
    if problems:
        raise UserError(*problems)
    chosen = str(found.pop())
    contexts = [c for models in listed.values() if (c := models.get(chosen)) is not None]
    return Served(chosen, min(contexts, default=None))


Answer = dict[str, "int | None"] | transport.Refusal | str


async def _ask_all(urls: Sequence[str], key: str | None) -> list[Answer]:
    async with transport.open_session(key) as session:
        return await asyncio.gather(*(_ask(session, url, key) for url in urls))


async def _ask(session: aiohttp.ClientSession, url: str, key: str | None) -> Answer:
    """The models that one endpoint lists, its refusal, or why it does not answer."""
    why = ""
    for attempt in range(PROBES):
        if attempt:
            await asyncio.sleep(PROBE_PAUSE_S * 2**attempt)
        try:
            return _models(await transport.get(session, f"{url}/models", key))
        except transport.Refusal as e:
            if e.status < 500:
                return e
            why = str(e)
        except (transport.NotSent, transport.TryFailed) as e:
            why = str(e)
        except ValueError:
            why = "its list of models is not the OpenAI protocol's; base_url ends in /v1"
    return why


def _models(data: bytes) -> dict[str, int | None]:
    """Model names with their context, which vLLM and SGLang tell."""
    try:
        entries: list[dict[str, Any]] = json.loads(data)["data"]
        return {str(e["id"]): e.get("max_model_len") for e in entries}
    except (KeyError, TypeError) as e:
        raise ValueError("no list of models") from e
