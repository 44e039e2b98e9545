"""Splits of a task: held-out ones first, every other one disjoint from them by question.

Seeds do not hold anything out (gcd of numbers to 50 drawn with two seeds overlaps in most questions), so disjointness
is by the normalised question's key. Nothing here depends on the process: no `hash()`, no set order.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from openr1.errors import UserError
from openr1.records import Prompt, stable_hash
from openr1.tasks.base import Dropped, Generator, Question, as_prompt, split_rng
from openr1.tasks.rows import Source, Unusable, check_columns, question_of
from openr1.tasks.settings import (
    ArithmeticSettings,
    BaseTask,
    CountdownSettings,
    FunctionsSettings,
    HubSettings,
    LocalSettings,
    ReasoningGymSettings,
    RowsTask,
    SplitSettings,
)
from openr1.tasks.splits import effective, split_problems

logger = logging.getLogger("openr1")

ROWS_VERIFIER = "math"  # what grades rows unless task.verifier says otherwise
_QUOTED = re.compile(r" ?(['\"]).*?\1")
PATIENCE = 200  # this many draws without a new question, plus 20 for each that was found: there are no more


@dataclass
class BuiltSplits:
    """Prompts by split, the rows that became none, and what was read (files with hashes, or a dataset's commit)."""

    splits: dict[str, list[Prompt]]
    dropped: list[Dropped] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def drop_counts(self) -> dict[str, int]:
        """How many rows were dropped for each reason."""
        return dict(Counter(d.reason for d in self.dropped).most_common())


def build_splits(task: BaseTask, splits: dict[str, SplitSettings], seed: int) -> BuiltSplits:
    """The prompts of every split, the same in every process for the same arguments.

    A held-out split holds no question twice and shares none with any other split. Rows whose gold cannot grade
    anything, that repeat a question, or that contradict another row's gold are dropped with a reason.

    Raises:
        UserError: wrong settings (all of them at once), unreadable data, a split that cannot be filled (with how many
            there are), or one of which nothing is left (with the reasons and their counts).
        OutsideError: the Hub does not answer.
    """
    problems = split_problems(task, splits)
    if problems:
        raise UserError(*problems)
    if isinstance(task, RowsTask):
        built = _from_rows(task, splits, seed)
    else:
        built = BuiltSplits({})
        taken: dict[str, str] = {}
        for name in held_out_first(splits):
            _generate(built, task, name, splits[name], seed, taken)
    built.splits = {name: built.splits[name] for name in splits}
    for reason, n in built.drop_counts().items():
        logger.warning("dropped %d rows: %s", n, reason)
    return built


def held_out_first(splits: dict[str, SplitSettings]) -> list[str]:
    """The order in which splits take their questions."""
    return sorted(splits, key=lambda name: not splits[name].held_out)


# -------------------------------------------------------------------------------------------------- made questions
def open_generator(task: BaseTask, seed: int) -> Generator:
    """The generator of a task that makes its problems."""
    if isinstance(task, ArithmeticSettings):
        from openr1.tasks.arithmetic import Arithmetic

        return Arithmetic(task)
    if isinstance(task, CountdownSettings):
        from openr1.tasks.countdown import Countdown

        return Countdown(task)
    if isinstance(task, FunctionsSettings):
        from openr1.tasks.functions import Functions

        return Functions(task)
    if isinstance(task, ReasoningGymSettings):
        from openr1.tasks.reasoning_gym import ReasoningGym

        return ReasoningGym(task, seed)
    raise TypeError(f"{type(task).__name__} makes no problems")


def _generate(
    built: BuiltSplits, task: BaseTask, name: str, split: SplitSettings, seed: int, taken: dict[str, str]
) -> None:
    """Fill one split; `taken` maps the keys of held-out questions to their split and grows by this one's."""
    settings = effective(task, split, name)
    generator = open_generator(settings, int(stable_hash(seed, name), 16))
    draws, chance = split_rng(seed, name, "questions"), split_rng(seed, name, "solutions")
    size = split.size or 0
    audited = not generator.trusted or settings.verifier is not None
    prompts: list[Prompt] = []
    seen: set[str] = set()
    missed = index = bad = 0
    while len(prompts) < size:
        batch: list[Prompt] = []
        while len(prompts) + len(batch) < size:
            question = generator.draw(index, draws)
            index += 1
            if question.key in taken or (question.key in seen and not split.repeats):
                missed += 1
                if missed > PATIENCE + 20 * len(seen):
                    raise UserError(_exhausted(name, size, len(prompts) + len(batch), len(taken), index))
                continue
            missed = 0
            seen.add(question.key)
            solved = generator.solve(question, split.mixture, chance)
            batch.append(as_prompt(settings, solved, generator.verifier))
        dropped = bad_golds(batch, name) if audited else {}
        bad += len(dropped)
        built.dropped += dropped.values()
        prompts += [p for p in batch if p.prompt_id not in dropped]
        if bad > PATIENCE + size:
            why = next(iter(dropped.values())).reason
            raise UserError(f"splits.{name}: {bad} problems of {index} have golds that cannot grade ({why}, …)")
    if split.held_out:
        taken |= dict.fromkeys(seen, name)
    built.splits[name] = prompts


def _exhausted(name: str, size: int, found: int, held: int, draws: int) -> str:
    outside = f" outside the {held} held-out ones" if held else ""
    return (
        f"splits.{name}: {size} different questions are wanted, but there are only {found}{outside} "
        f"({draws} draws); lower size, or widen the task"
    )


def bad_golds(prompts: Sequence[Prompt], split: str) -> dict[str, Dropped]:
    """The prompts whose gold cannot grade, by id. Reasons leave the gold itself out, so that they can be counted."""
    from openr1.verify.audit import audit

    by_id = {p.prompt_id: p for p in prompts}
    found = {}
    for problem in audit(prompts):
        reason = "bad gold: " + _QUOTED.sub("", problem.reason)
        found[problem.prompt_id] = Dropped(problem.prompt_id, split, reason, _example(by_id[problem.prompt_id]))
    return found


def _example(prompt: Prompt) -> str:
    return f"{prompt.question[:200]} -> {prompt.answer!r}"


# -------------------------------------------------------------------------------------------------- questions of rows
def _from_rows(task: RowsTask, splits: dict[str, SplitSettings], seed: int) -> BuiltSplits:
    built = BuiltSplits({})
    opened = _open(task, splits)
    pools: dict[int, list[Question]] = {}
    for source in {id(s): s for s in opened.values()}.values():
        label = "+".join(name for name in splits if opened[name] is source)
        pools[id(source)] = _pool(built, task, source, label)
        built.sources[label] = source.identity
    taken: dict[str, str] = {}
    for name in held_out_first(splits):
        source = opened[name]
        chosen = _choose(built, name, splits[name], source, pools[id(source)], taken, seed)
        settings = effective(task, splits[name], name)
        built.splits[name] = [as_prompt(settings, q, ROWS_VERIFIER) for q in chosen]
    return built


def _open(task: RowsTask, splits: dict[str, SplitSettings]) -> dict[str, Source]:
    """The source of every split; splits that read the same share one object."""
    wanted = list(dict.fromkeys(s.source for s in splits.values()))
    if isinstance(task, LocalSettings):
        from openr1.tasks.local import local_files, open_local

        files = local_files(task)
        unknown = [f"splits.{n}.source: no file {s.source!r} in task.path; there is {', '.join(files)}"
                   for n, s in splits.items() if s.source is not None and s.source not in files]  # fmt: skip
        if len(files) > 1:
            unknown += [f"splits.{n}.source: task.path has {', '.join(files)}; say which one"
                        for n, s in splits.items() if s.source is None]  # fmt: skip
        if unknown:
            raise UserError(*unknown)
        named = {w: w if w is not None else next(iter(files)) for w in wanted}
        read = {name: open_local(files[name]) for name in dict.fromkeys(named.values())}
        by_source: dict[str | None, Source] = {w: read[name] for w, name in named.items()}
    elif isinstance(task, HubSettings):
        from openr1.tasks.hub import open_hub

        by_source = open_hub(task, wanted)
    else:
        raise TypeError(f"{type(task).__name__} reads no rows")
    return {name: by_source[split.source] for name, split in splits.items()}


def _pool(built: BuiltSplits, task: RowsTask, source: Source, label: str) -> list[Question]:
    """The usable questions of a source, each once, or once for each of its solutions."""
    check_columns(source, task.columns)
    found: dict[str, list[Question]] = {}
    total = 0
    for row in source.rows:
        total += 1
        try:
            question = question_of(row, task.columns)
        except Unusable as e:
            built.dropped.append(Dropped("", label, str(e), str(dict(row))[:200]))
            continue
        found.setdefault(question.key, []).append(question)
    once: dict[str, tuple[Prompt, list[Question]]] = {}
    for questions in found.values():
        asked = [as_prompt(task, q, ROWS_VERIFIER) for q in questions]
        golds = dict.fromkeys((q.answer or "").strip() for q in questions)
        if len(golds) > 1:
            shown = f"{asked[0].question[:150]} -> {', '.join(map(repr, golds))}"
            built.dropped += [Dropped(p.prompt_id, label, "conflicting golds for one question", shown) for p in asked]
        else:
            kept = _solutions(questions) if task.solutions == "all" else [0]
            again = [p for i, p in enumerate(asked) if i not in kept]
            built.dropped += [Dropped(p.prompt_id, label, "duplicate question", _example(p)) for p in again]
            once[asked[0].prompt_id] = asked[0], [questions[i] for i in kept]
    bad = bad_golds([prompt for prompt, _ in once.values()], label) if task.columns.answer is not None else {}
    built.dropped += bad.values()
    pool = [q for prompt_id, (_, questions) in once.items() if prompt_id not in bad for q in questions]
    if not pool:
        counts = Counter(d.reason for d in built.dropped if d.split == label)
        why = ", ".join(f"{n} x {reason}" for reason, n in counts.most_common(5))
        raise UserError(f"{source.where}: none of its {total} rows can be used: {why}")
    return pool


def _solutions(questions: Sequence[Question]) -> list[int]:
    """Which rows of one question have a solution that none before them has; the first row in any case."""
    seen: dict[str, int] = {}
    for i, question in enumerate(questions):
        if question.solution is not None:
            seen.setdefault(question.solution.strip(), i)
    return sorted(seen.values()) or [0]


def _choose(
    built: BuiltSplits,
    name: str,
    split: SplitSettings,
    source: Source,
    pool: list[Question],
    taken: dict[str, str],
    seed: int,
) -> list[Question]:
    """Take a split's share of its pool, in an order drawn by hash; what a held-out split holds is left to it."""
    free = [q for q in pool if q.key not in taken]
    if split.held_out:
        free = list({q.key: q for q in reversed(free)}.values())
    if split.source is not None:  # an overlap between two sources is a leak worth naming
        leaks = [q for q in pool if q.key in taken]
        built.dropped += [
            Dropped("", name, f"question is held out in {taken[q.key]}", f"{q.text[:200]} -> {q.answer!r}")
            for q in leaks
        ]
    free.sort(key=lambda q: stable_hash(seed, name, q.key))
    size = len(free) if split.size is None else split.size
    if not free:
        raise UserError(
            f"splits.{name}: nothing of {source.where} is left after the held-out splits; lower their size"
        )
    if size > len(free) and not split.repeats:
        raise UserError(
            f"splits.{name}: {size} questions are wanted, but {source.where} has {len(free)} left of {len(pool)} "
            "usable ones; lower size (or leave it out to take them all)"
        )
    if split.held_out:
        taken |= {q.key: name for q in free[:size]}
    return [free[i % len(free)] for i in range(size)]
