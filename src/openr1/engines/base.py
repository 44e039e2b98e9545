"""The interface that all engines share, the canonical order of requests, and `collect`, which fills a store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from openr1.engines.progress import GenerationProgress
from openr1.errors import UserError
from openr1.records import Completion, Message, Prompt, request_seed

if TYPE_CHECKING:
    from openr1.engines.settings import SamplingSettings
    from openr1.metrics import MetricLog

logger = logging.getLogger("openr1")
Key = tuple[str, int]


def generation_flops(parameters: int, tokens: int) -> float:
    """2·N·D: a forward pass of N parameters for each of D tokens, generated or read as prompt; attention's products
    are not counted (Kaplan et al., arXiv 2001.08361, table 1)."""
    return 2.0 * parameters * tokens


@dataclass(frozen=True, slots=True)
class Request:
    """One completion that is wanted; (prompt_id, sample_index) is its key."""

    prompt_id: str
    sample_index: int
    messages: list[Message]
    seed: int

    @property
    def key(self) -> Key:
        return (self.prompt_id, self.sample_index)


class Engine(Protocol):
    """Prompts to completions."""

    def identity(self) -> dict[str, Any]:
        """What of this engine decides which completions come out, as JSON."""
        ...

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key] = (),
        prefill: str | None = None,
    ) -> Iterator[list[Completion]]:
        """The completions of the requests that are not `done`, in commits: each list belongs together.

        `done` may grow meanwhile: it is asked right before a request is started. `prefill` is text that every reply
        is made to begin with; it is part of the completion's text.
        """
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


def make_requests(
    prompts: Sequence[Prompt], k: int, base_seed: int, system_prompt: str | None = None
) -> list[Request]:
    """`k` requests for every prompt in canonical order: sample index major, then the prompts' order.

    So the list for a smaller k is the beginning of the list for a larger one. Each draw has a seed of its own. A
    prompt that is there several times counts once. `system_prompt` goes before conversations that have none.
    """
    distinct = {p.prompt_id: with_system(p.messages, system_prompt) for p in prompts}
    return [
        Request(prompt_id, i, messages, request_seed(base_seed, prompt_id, i))
        for i in range(k)
        for prompt_id, messages in distinct.items()
    ]


def with_system(messages: list[Message], system_prompt: str | None) -> list[Message]:
    """The conversation with `system_prompt` in front; one that has a system message keeps its own."""
    if system_prompt is None or any(m["role"] == "system" for m in messages):
        return messages
    return [{"role": "system", "content": system_prompt}, *messages]


def request_problems(requests: Sequence[Request]) -> list[str]:
    """What no engine can answer: prompts without text, keys that come twice; one line each."""
    problems = []
    empty = {r.prompt_id for r in requests if not any(m["content"].strip() for m in r.messages if m["role"] == "user")}
    if empty:
        problems.append(f"{len(empty)} prompts have no text in a user turn ({_some(empty)}); drop them from the data")
    keys = len({r.key for r in requests})
    if keys < len(requests):
        problems.append(f"{len(requests)} requests share {keys} keys; make prompt ids distinct")
    return problems


def check_requests(requests: Sequence[Request]) -> None:
    """Raise UserError for requests that no engine can answer, before the first one is sent."""
    if problems := request_problems(requests):
        raise UserError(*problems)


class Keeper(Protocol):
    """Where completions go: a store, or what stands before several."""

    def __contains__(self, key: Key) -> bool: ...

    def keys(self) -> Container[Key]: ...

    def append(self, rows: Sequence[Completion]) -> None: ...


class LiveKeys:
    """What an engine has not to start, asked right before it does: what the store holds, and what was given up."""

    def __init__(self, store: Container[Key], given_up: Container[Key] = ()) -> None:
        self.store, self.given_up = store, given_up

    def __contains__(self, key: object) -> bool:
        return key in self.store or key in self.given_up


def collect(
    engine: Engine,
    requests: Sequence[Request],
    sampling: SamplingSettings,
    store: Keeper,
    prefill: str | None = None,
    title: str = "generate",
    on_commit: Callable[[list[Completion]], None] | None = None,
    given_up: Container[Key] = (),
    metrics: MetricLog | None = None,
) -> dict[str, int]:
    """Ask for the completions that `store` lacks and append every commit to it.

    Args:
        on_commit: called with every commit, after it is in the store.
        given_up: keys that are not asked for although they are missing; may grow while this runs.
        metrics: gets a line now and then and one at the end, by the number of completions that are there.

    Returns:
        Token counts of this call: `prompt` (read by the model), `generated`.
    """
    missing = sum(r.key not in store for r in requests)
    account = GenerationProgress(title, len(requests), len(requests) - missing, metrics)
    if not missing:
        return account.tokens
    if missing < len(requests):
        text = "%s: %d of %d completions are there, %d to go"
        logger.info(text, title, len(requests) - missing, len(requests), missing)
    live = LiveKeys(store.keys(), given_up)
    with account, closing(_as_generator(engine.generate(requests, sampling, live, prefill))) as commits:
        for commit in commits:
            store.append(commit)
            if on_commit is not None:
                on_commit(commit)
            account.add(commit, given_up)
    return account.tokens


def _as_generator(commits: Iterator[list[Completion]]) -> Any:
    """A generator around any iterator, so that it can be closed on the way out."""
    yield from commits


def _some(ids: set[str], most: int = 3) -> str:
    shown = sorted(ids)
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")
