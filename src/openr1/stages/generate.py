"""Stage `generate`: completions of a model for every prompt, into the append-only store.

A completion is in the store as its request ends, so a killed stage loses what is in flight and nothing else. What is
missing at the end has a reason: enough right answers to its prompt, or a spent token budget.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from openr1.engines.base import Engine, Request, generation_flops
from openr1.engines.settings import SamplingSettings
from openr1.errors import OutsideError
from openr1.records import Completion, Prompt, prompts_by_id
from openr1.stages.base import Output, StageContext, StageResult, completion_store, read_prompts
from openr1.stages.limits import Limits
from openr1.stages.model_input import stage_model, store_identity
from openr1.stages.settings import GenerateStage
from openr1.store import AppendStore, Key, Shard

logger = logging.getLogger("openr1")
UNANSWERED = "unanswered"
CHUNK = 4096  # rows read and graded at a time
MOST_REASONS, LONGEST_REASON = 20, 200


@dataclass
class Tally:
    """Counts over completions, whichever attempt made them."""

    rows: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: {"prompt": 0, "generated": 0})
    failures: Counter[str] = field(default_factory=Counter)
    finish: Counter[str] = field(default_factory=Counter)

    def add(self, completions: Iterable[Completion]) -> None:
        for c in completions:
            self.rows += 1
            self.tokens["prompt"] += c.prompt_tokens
            self.tokens["generated"] += c.completion_tokens
            self.finish[c.finish_reason] += 1
            if c.error is not None:
                self.failures[c.error[:LONGEST_REASON]] += 1

    @property
    def failed(self) -> int:
        return self.failures.total()

    def reasons(self, most: int = MOST_REASONS) -> dict[str, int]:
        """The commonest reasons of failures with their counts; the rest under `other reasons`."""
        top = dict(self.failures.most_common(most))
        rest = self.failed - sum(top.values())
        return top | ({"other reasons": rest} if rest else {})


def run(ctx: StageContext) -> StageResult:
    from openr1.engines import collect, make_requests, open_engine

    settings: GenerateStage = ctx.settings
    prompts = [p for p in read_prompts(ctx.path("data")) if ctx.shard is None or p.prompt_id in ctx.shard]
    requests = make_requests(prompts, settings.k, settings.seed, settings.system_prompt)
    _say_own_system(ctx.name, prompts, settings.system_prompt)
    model = stage_model(ctx)
    engine = LazyEngine(lambda: open_engine(settings.engine, model.folder, ctx.folder / "logs"))
    limits = _limits(settings, prompts, ctx.shard)
    tally = Tally()
    try:
        identity = store_identity(ctx, settings.sampling, model, engine)
        with completion_store(ctx.store, identity, ctx.shard) as store:
            _take_stock(store, tally, limits)
            before = tally.rows

            def on_commit(commit: list[Completion]) -> None:
                tally.add(commit)
                limits.add(commit)

            if any(r.key not in store and r.key not in limits for r in requests):
                collect(
                    engine,
                    requests,
                    settings.sampling,
                    store,
                    settings.prefill,
                    title=ctx.name,
                    on_commit=on_commit,
                    given_up=limits,
                    metrics=ctx.metrics,
                )
            limits.settle()
            store.seal()
            not_asked = Counter(limits.reason(r.key) or UNANSWERED for r in requests if r.key not in store)
            output = Output("completions", len(store), store.content_hash(), in_place=True)
    finally:
        limits.close()
        engine.close()
    _summary(ctx, tally, before, not_asked)
    return StageResult(
        {"store": output},
        counts={
            "in": len(prompts),
            "out": tally.rows,
            "new": tally.rows - before,
            "failed": tally.failed,
            "not_asked": dict(sorted(not_asked.items())),
        },
        tokens=tally.tokens,
        results=_results(ctx, engine, tally),
    )


def _take_stock(store: AppendStore[Completion], tally: Tally, limits: Limits) -> None:
    """Count what is there, and grade it where early stop wants to know."""
    rows = store.iter_rows()
    while chunk := list(islice(rows, CHUNK)):
        tally.add(chunk)
        limits.add(chunk)
        limits.settle()


def _limits(settings: GenerateStage, prompts: Sequence[Prompt], shard: Shard | None) -> Limits:
    correct = settings.early_stop.correct if settings.early_stop is not None else None
    in_order = settings.engine.name == "transformers"
    budget = settings.token_budget
    if budget is not None and shard is not None:  # an equal share, since shards do not know of each other
        budget = -(-budget // shard.count)
    return Limits(prompts_by_id(prompts), settings.k, correct, budget, in_order)


def _say_own_system(name: str, prompts: Sequence[Prompt], system_prompt: str | None) -> None:
    own = sum(any(m["role"] == "system" for m in p.messages) for p in prompts)
    if system_prompt is not None and own:
        logger.warning("%s: %d of %d prompts keep the system message of their own", name, own, len(prompts))


def _summary(ctx: StageContext, tally: Tally, before: int, not_asked: Counter[str]) -> None:
    """One line of what was done; raises OutsideError where requests got no reply, or all of them failed."""
    if lost := not_asked.pop(UNANSWERED, 0):
        raise OutsideError(f"{ctx.name}: {lost} requests came back without a reply; the same command asks again")
    top = "; ".join(f"{n} x {reason}" for reason, n in tally.reasons(3).items())
    if tally.rows and tally.failed == tally.rows:
        raise OutsideError(
            f"{ctx.name}: every one of {tally.rows} requests failed ({top}); mend that, then rerun=[{ctx.name}]"
        )
    parts = [f"{tally.rows} completions ({tally.rows - before} new), {tally.tokens['generated']} tokens"]
    parts += [f"{tally.failed} failed ({top})"] if tally.failed else []
    parts += [f"{n} not asked for ({reason})" for reason, n in sorted(not_asked.items())]
    logger.info("%s: %s", ctx.name, "; ".join(parts))


def _results(ctx: StageContext, engine: LazyEngine, tally: Tally) -> dict[str, Any]:
    """What the engine says of itself; where none was needed, what it said to an earlier attempt or to the shards."""
    said = engine.said or {name: ctx.earlier.get(name) for name in ("engine", "parameters")}
    parameters: int | None = said["parameters"]
    flops = None if parameters is None else generation_flops(parameters, sum(tally.tokens.values()))
    return {
        **said,
        "flops": flops,
        "finish_reasons": dict(sorted(tally.finish.items())),
        "failures": tally.reasons(),
    }


class LazyEngine:
    """An engine that starts when it is first needed: where nothing is missing, no model is loaded."""

    def __init__(self, open_it: Callable[[], Engine]) -> None:
        self._open = open_it
        self._engine: Engine | None = None
        self.said: dict[str, Any] | None = None  # identity and parameters, None where the engine was not needed

    def _started(self) -> Engine:
        if self._engine is None:
            self._engine = self._open()
            self.said = {
                "engine": self._engine.identity(),
                "parameters": getattr(self._engine, "parameters", None),
            }
        return self._engine

    def identity(self) -> dict[str, Any]:
        return self._started().identity()

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        done: Container[Key] = (),
        prefill: str | None = None,
    ) -> Iterator[list[Completion]]:
        return self._started().generate(requests, sampling, done, prefill)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


def token_counts(rows: Sequence[Completion]) -> dict[str, int]:
    """Tokens read and generated for `rows`, whichever attempt made them."""
    tally = Tally()
    tally.add(rows)
    return tally.tokens
