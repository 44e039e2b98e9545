"""The interface that all engines share, the canonical order of requests, and `collect`, which fills a store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from openr1.errors import UserError
from openr1.log import Progress
from openr1.records import Completion, Message, Prompt, request_seed

if TYPE_CHECKING:
    from openr1.engines.settings import SamplingSettings
    from openr1.store import AppendStore

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

        `prefill` is text that every reply is made to begin with; it is part of the completion's text.
        """
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...


def make_requests(prompts: Sequence[Prompt], k: int, base_seed: int) -> list[Request]:
    """`k` requests for every prompt in canonical order: sample index major, then the prompts' order.

    So the list for a smaller k is the beginning of the list for a larger one. Each draw has a seed of its own. A
    prompt that is there several times counts once.
    """
    distinct = list({p.prompt_id: p for p in prompts}.values())
    return [
        Request(p.prompt_id, i, p.messages, request_seed(base_seed, p.prompt_id, i))
        for i in range(k)
        for p in distinct
    ]


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


def collect(
    engine: Engine,
    requests: Sequence[Request],
    sampling: SamplingSettings,
    store: AppendStore[Completion],
    prefill: str | None = None,
    title: str = "generate",
    on_commit: Callable[[list[Completion]], None] | None = None,
) -> dict[str, int]:
    """Ask for the completions that `store` lacks and append every commit to it.

    Returns:
        Token counts of this call: `prompt` (read by the model), `generated`.
    """
    tokens = {"prompt": 0, "generated": 0}
    missing = sum(r.key not in store for r in requests)
    if not missing:
        return tokens
    if missing < len(requests):
        logger.info(
            "%s: %d of %d completions are there, %d to go", title, len(requests) - missing, len(requests), missing
        )
    with Progress(title, len(requests)) as progress:
        progress.update(len(requests) - missing)
        with closing(_as_generator(engine.generate(requests, sampling, store.keys(), prefill))) as commits:
            for commit in commits:
                store.append(commit)
                tokens["prompt"] += sum(c.prompt_tokens for c in commit)
                tokens["generated"] += sum(c.completion_tokens for c in commit)
                progress.advance(len(commit), f"{tokens['generated']} tokens")
                if on_commit is not None:
                    on_commit(commit)
    return tokens


def _as_generator(commits: Iterator[list[Completion]]) -> Any:
    """A generator around any iterator, so that it can be closed on the way out."""
    yield from commits


def _some(ids: set[str], most: int = 3) -> str:
    shown = sorted(ids)
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")
