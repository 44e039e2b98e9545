"""The OpenAI protocol, without a network: what goes into a request, what a reply says, what a refusal means."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from openr1.records import END_THINK, THINK, FinishReason, Message

if TYPE_CHECKING:
    from openr1.engines.settings import SamplingSettings

API = Literal["chat", "completions"]
Decode = Callable[[list[int]], str]
PATHS: dict[str, str] = {"chat": "chat/completions", "completions": "completions"}
PREFILL_FIELDS = ("continue_final_message", "add_generation_prompt")  # vLLM's and SGLang's
LONGEST_MESSAGE = 300

# what ends a reply, in the words of OpenAI, vLLM, SGLang, TGI and llama.cpp
ENDS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "length": "length",
}  # fmt: skip
UNFINISHED = frozenset({"None", "abort", "error", "insufficient_system_resource"})  # the server gave up: ask again


class BrokenReply(Exception):
    """A body that is no whole reply; the request is repeated."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. Token counts are None where the server did not say; `refused` is why its text is not used."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None
    completion_tokens: int | None
    refused: str | None = None


# --------------------------------------------------------------------------------------------------------- requests
def body(
    api: API,
    model: str,
    sampling: SamplingSettings,
    seed: int,
    messages: Sequence[Message],
    prompt: str | list[int] | None = None,
    prefill: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON of one request. `top_k` (vLLM's field) is there only where it is set; a null in `extra` takes a field
    out; greedy decoding needs no seed."""
    fields: dict[str, Any] = {"model": model, "max_tokens": sampling.max_new_tokens}
    fields |= {"temperature": sampling.temperature}
    if sampling.temperature > 0:
        fields |= {"top_p": sampling.top_p, "seed": seed}
        fields |= {"top_k": sampling.top_k} if sampling.top_k is not None else {}
    if api == "completions":
        fields["prompt"] = prompt
    else:
        fields["messages"] = [{"role": m["role"], "content": m["content"]} for m in messages]
        if prefill:
            fields["messages"].append({"role": "assistant", "content": prefill})
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
    fields |= extra or {}
    return {k: v for k, v in fields.items() if v is not None}


# ---------------------------------------------------------------------------------------------------------- replies
def parse_reply(data: bytes, api: API, prefill: str | None = None, decode: Decode | None = None) -> Reply:
    """The first choice of a reply; its text begins with `prefill`. `decode` makes the text of a completion from its
    token ids, where the reply has them.

    Raises:
        BrokenReply: not JSON, cut off, without a choice, or given up by the server.
    """
    try:
        parsed = json.loads(data)
        choice = parsed["choices"][0]
        reason = str(choice.get("finish_reason"))
        text = choice["text"] if api == "completions" else _chat_text(choice["message"], prefill or "")
        if decode is not None and isinstance(choice.get("token_ids"), list):
            text = decode(choice["token_ids"])
        usage = parsed.get("usage") or {}
        counts = [usage.get(k) for k in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise BrokenReply(f"a malformed reply ({type(e).__name__}, {len(data)} bytes)") from e
    if not isinstance(text, str):
        raise BrokenReply("a malformed reply (no text)")
    if reason in UNFINISHED:
        raise BrokenReply(f"an unfinished reply (finish_reason {reason})")
    if api == "completions":
        text = (prefill or "") + text
    read, made = (n if isinstance(n, int) else None for n in counts)
    if reason not in ENDS:
        return Reply("", "error", read, made, f"the endpoint ended the reply with finish_reason {reason}")
    return Reply(text, ENDS[reason], read, made)


def _chat_text(message: Mapping[str, Any], prefill: str) -> str:
    """Prefill, reasoning and answer as one string, also where the server hands the reasoning apart."""
    thought = message.get("reasoning") or message.get("reasoning_content")
    content = message["content"] if "content" in message and not thought else message.get("content") or ""
    if content is None:
        content = ""
    if not thought:
        return prefill + content
    opened = prefill.rfind(THINK) > prefill.rfind(END_THINK)
    start = prefill + thought.lstrip("\n") if opened else f"{prefill}{THINK}\n{thought}"
    # without an answer the thinking was cut off
    return f"{start.rstrip()}\n{END_THINK}\n\n{content.lstrip()}" if content.strip() else start


# --------------------------------------------------------------------------------------------------------- refusals
def error_message(data: bytes, secret: str | None = None) -> str:
    """What an error body says, on one line, without the key that it may quote."""
    text = data.decode("utf-8", "replace")
    try:
        parsed = json.loads(text)
        found = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
        said = found.get("message") or found.get("detail") if isinstance(found, dict) else found
        text = said if isinstance(said, str) else json.dumps(said or found, ensure_ascii=False)
    except ValueError:
        pass
    if secret:
        text = text.replace(secret, "***")
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "…"


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait (a number, or an HTTP date); None where it says nothing."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now))
    except ValueError:
        return None


Kind = Literal["repeat", "busy", "key", "quota", "model", "prefill", "row"]


def classify(status: int, message: str, told_to_wait: bool) -> Kind:
    """What an HTTP status that is no success means.

    repeat: a fault of the endpoint, the request is tried again. busy: the endpoint asks for a pause. key, quota,
    model, prefill: no request can succeed until the user mends something. row: this request can never succeed there.
    """
    if status == 429:
        return "quota" if "insufficient_quota" in message or "exceeded your current quota" in message else "busy"
    if status == 503 and told_to_wait:
        return "busy"
    if status >= 500 or status in (408, 409, 425):
        return "repeat"
    if status in (400, 422) and any(f in message for f in PREFILL_FIELDS):
        return "prefill"
    if status == 401:
        return "key"
    if status == 402:
        return "quota"
    if status in (403, 404) or 300 <= status < 400:
        return "model"
    return "row"
