"""`grade`: verdicts for a batch. What the fast path is sure of is decided here; the rest goes to the worker pool."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from openr1.errors import UserError
from openr1.records import Completion, Prompt, Verdict
from openr1.verify.base import Decision, Extracted, Verifier, get_verifier, golds_of
from openr1.verify.pool import shared_pool

logger = logging.getLogger("openr1")

CACHE_SIZE = 100_000
_MAX_CACHED_TEXT = 2_000

Key = tuple[str, str, tuple[str, ...], str, str]
_cache: dict[Key, Decision] = {}
_cache_lock = threading.Lock()
cache_enabled = True
fast_path_enabled = True


def clear_cache() -> None:
    """Forget every cached decision."""
    with _cache_lock:
        _cache.clear()


def _remember(key: Key, decision: Decision) -> None:
    if not cache_enabled or decision.status == "infra_error" or sum(map(len, key[2])) + len(key[3]) > _MAX_CACHED_TEXT:
        return
    with _cache_lock:
        if len(_cache) >= CACHE_SIZE:  # a plain dict keeps insertion order: drop the oldest tenth
            for old in list(_cache)[: CACHE_SIZE // 10]:
                del _cache[old]
        _cache[key] = decision


def _same_length(what: str, values: Sequence[Any] | None, n: int) -> Sequence[Any]:
    if values is None:
        return [None] * n
    if len(values) != n:
        raise UserError(f"grade: {len(values)} {what} for {n} completions; give one for each")
    return values


def grade(
    gold: Sequence[Any],
    completion: Sequence[str],
    verifier: str | Sequence[str] = "math",
    *,
    info: Sequence[dict[str, Any] | None] | None = None,
    finish_reason: Sequence[str | None] | None = None,
    workers: int | None = None,
    deadline: float | None = None,
) -> list[Verdict]:
    """Verdicts in the order of the completions.

    `gold` holds a gold answer a row, or a list of acceptable ones. `verifier` is a name, a `module:Class` or
    `module:function`, or one a row. `info` carries what a verifier needs beyond the gold, `finish_reason` is "length"
    for a cut completion. `workers` bounds the worker processes (default: the cores), `deadline` is in seconds for the
    whole batch: what is not graded by then is `infra_error`. Raises UserError for lengths that differ or an unknown
    verifier; a bad row is a status of its own, never an exception.
    """
    for what, value in (("gold", gold), ("completion", completion)):
        if isinstance(value, (str, bytes)):
            raise UserError(f"grade: {what} is one text; give a list")
    n = len(completion)
    _same_length("gold answers", gold, n)
    names = [verifier] * n if isinstance(verifier, str) else list(_same_length("verifiers", verifier, n))
    verifiers = {name: get_verifier(name) for name in dict.fromkeys(names)}
    return grade_with(
        [verifiers[name] for name in names],
        gold,
        completion,
        _same_length("infos", info, n),
        _same_length("finish reasons", finish_reason, n),
        workers,
        deadline,
    )


async def grade_async(
    gold: Sequence[Any],
    completion: Sequence[str],
    verifier: str | Sequence[str] = "math",
    *,
    info: Sequence[dict[str, Any] | None] | None = None,
    finish_reason: Sequence[str | None] | None = None,
    workers: int | None = None,
    deadline: float | None = None,
) -> list[Verdict]:
    """`grade` without blocking the event loop."""
    import asyncio

    return await asyncio.to_thread(
        grade,
        gold,
        completion,
        verifier,
        info=info,
        finish_reason=finish_reason,
        workers=workers,
        deadline=deadline,
    )


def prepare(verifiers: Iterable[str]) -> dict[str, Any]:
    """Let every verifier try what it cannot do without; OutsideError before anything is loaded or generated.

    Returns what a manifest says of it, such as the tier of the sandbox.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(verifiers):
        found |= get_verifier(name).prepare()
    return found


def grade_completions(
    prompts: Sequence[Prompt], completions: Sequence[Completion], workers: int | None = None
) -> list[Verdict]:
    """`grade` for records: each completion by the verifier of the prompt at the same place.

    A request that failed for good has no answer to judge: its verdict is `infra_error` with the request's error.
    """
    asked = [(p, c) for p, c in zip(prompts, completions, strict=True) if c.error is None]
    verdicts = iter(
        grade(
            gold=[p.answer for p, _ in asked],
            completion=[c.text for _, c in asked],
            verifier=[p.verifier for p, _ in asked],
            info=[p.info for p, _ in asked],
            finish_reason=[c.finish_reason for _, c in asked],
            workers=workers,
        )
    )
    return [next(verdicts) if c.error is None else _of_failed(p, c) for p, c in zip(prompts, completions, strict=True)]


def _of_failed(prompt: Prompt, completion: Completion) -> Verdict:
    name, version = prompt.verifier, get_verifier(prompt.verifier).version
    return Verdict("infra_error", None, "generate", 0.0, name, version, completion.error)


def _early(verifier: Verifier, gold: Any, completion: Any, info: dict[str, Any], finish: str | None) -> Decision | str:
    """The extracted answer, or the decision that needs none: a bad gold, a missing answer, no text at all."""
    reason = verifier.check_gold(gold, info)
    if reason is not None:
        return Decision("bad_gold", "gold", reason)
    if completion is None:
        return Decision("no_answer", "extract", "the completion is empty")
    if not isinstance(completion, str):
        return Decision("error", "extract", f"the completion is {type(completion).__name__}, not text")
    found: Extracted = verifier.extract(completion, finish)
    return found.text if found.text is not None else Decision(found.status, "extract", found.detail)


def _fast(verifier: Verifier, answer: str, golds: list[str], info: dict[str, Any]) -> Decision | None:
    if not fast_path_enabled:
        return None
    return verifier.decide(answer, golds, info)


def grade_with(
    verifiers: Sequence[Verifier],
    gold: Sequence[Any],
    completion: Sequence[Any],
    info: Sequence[dict[str, Any] | None],
    finish_reason: Sequence[str | None],
    workers: int | None = None,
    deadline: float | None = None,
) -> list[Verdict]:
    """`grade` with verifiers instead of names; every argument has one entry a row."""
    verdicts: list[Verdict | None] = [None] * len(completion)
    waiting: dict[Key, list[int]] = {}
    jobs: dict[Key, dict[str, Any]] = {}
    batches: dict[int, list[int]] = {}
    for i, verifier in enumerate(verifiers):
        if verifier.standalone:
            batches.setdefault(id(verifier), []).append(i)
            continue
        start = time.perf_counter()
        details = info[i] or {}
        try:
            answer = _early(verifier, gold[i], completion[i], details, finish_reason[i])
            if isinstance(answer, Decision):
                verdicts[i] = _dress(verifier, answer, None, start)
                continue
            golds = golds_of(gold[i])
            key: Key = (verifier.name, verifier.version, tuple(golds), answer, _info_key(verifier, details))
            decision = _cache.get(key) if cache_enabled else None
            if decision is None and key not in waiting:
                decision = _fast(verifier, answer, golds, details)
                if decision is not None:
                    _remember(key, decision)
        except Exception as error:  # a bug of ours must mask the row, loudly, and not lose the batch
            logger.exception("verifier %s failed on a row; the row is masked", verifier.name)
            verdicts[i] = _dress(verifier, Decision("infra_error", "verifier", repr(error)[:500]), None, start)
            continue
        if decision is not None:
            verdicts[i] = _dress(verifier, decision, answer, start)
            continue
        waiting.setdefault(key, []).append(i)
        if key not in jobs:
            jobs[key] = _job(verifier, answer, golds, details)
    if jobs:
        _ask_workers(verifiers, jobs, waiting, verdicts, workers, deadline)
    for rows in batches.values():
        verifier = verifiers[rows[0]]
        batch = verifier.verify_batch(
            [completion[i] for i in rows],
            [gold[i] for i in rows],
            [info[i] for i in rows],
            [finish_reason[i] for i in rows],
            workers=workers,
            deadline=deadline,
        )
        for i, verdict in zip(rows, batch, strict=True):
            verdicts[i] = verdict
    return [verdict for verdict in verdicts if verdict is not None]


def _job(verifier: Verifier, answer: str, golds: list[str], info: dict[str, Any]) -> dict[str, Any]:
    """What a worker is asked; only the part of `info` that matters travels."""
    job: dict[str, Any] = {
        "verifier": verifier.path or verifier.name,
        "answer": answer,
        "gold": golds,
        "info": verifier.relevant(info),
    }
    if not cache_enabled:
        job["fresh"] = True
    if verifier.preload:
        job["preload"] = verifier.preload
    if verifier.cpu_seconds:
        job["cpu"] = verifier.cpu_seconds
    return job


def _info_key(verifier: Verifier, info: dict[str, Any]) -> str:
    relevant = verifier.relevant(info)
    return json.dumps(relevant, sort_keys=True, default=str) if relevant else ""


def _ask_workers(
    verifiers: Sequence[Verifier],
    jobs: dict[Key, dict[str, Any]],
    waiting: dict[Key, list[int]],
    verdicts: list[Verdict | None],
    workers: int | None,
    deadline: float | None,
) -> None:
    """Grade each distinct (gold, answer) once and hand the verdict to every row that asked for it."""
    start = time.perf_counter()
    for key, reply in zip(jobs, shared_pool().run(list(jobs.values()), workers, deadline), strict=True):
        decision = Decision(reply["status"], reply["decided_by"], reply.get("detail"))
        _remember(key, decision)
        ms = reply.get("ms")
        for i in waiting[key]:
            verdicts[i] = _dress(verifiers[i], decision, key[3], start, ms)


def _dress(
    verifier: Verifier, decision: Decision, answer: str | None, start: float, ms: float | None = None
) -> Verdict:
    return Verdict(
        status=decision.status,
        extracted=answer,
        decided_by=decision.decided_by,
        ms=round((time.perf_counter() - start) * 1000 if ms is None else ms, 3),
        verifier=verifier.name,
        version=verifier.version,
        detail=decision.detail,
    )
