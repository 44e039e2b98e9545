"""A benchmark's rows as questions: checked before anything is asked, each able to say how sample i of it is put.

Where choices are shuffled, every sample shows them in an order of its own, a function of (seed, question, sample); so
the prompt and the right letter belong to the sample, and the question's id to all of its samples.
"""

from __future__ import annotations

import json
import logging
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openr1.errors import OutsideError, UserError
from openr1.records import Message, Prompt, request_seed, stable_hash
from openr1.tasks.benchmarks import NotAvailable, benchmark_rows
from openr1.tasks.definitions import Benchmark, load_benchmark
from openr1.tasks.rows import Row, Unusable, plain, text_of

logger = logging.getLogger("openr1")
LETTERS = "ABCDEFGHIJ"
MOST_SHOWN = 3


@dataclass(frozen=True)
class BenchmarkQuestion:
    """One question. `id`: of its content, the same for all samples; `key`: the name that the benchmark gives it."""

    id: str
    key: str
    benchmark: str
    text: str
    gold: str
    template: str = field(repr=False)
    verifier: str
    choices: tuple[str, ...] = ()
    right: int | None = None
    shuffled: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def prompt(self, sample: int = 0, seed: int = 0, system_prompt: str | None = None) -> Prompt:
        """How sample `sample` of the question is put; its `prompt_id` is the question's id."""
        choices, gold = self._choices(sample, seed)
        shown = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        content = self.template.replace("{choices}", shown).replace("{question}", self.text)
        messages = [Message(role="system", content=system_prompt)] if system_prompt is not None else []
        metadata = {**self.metadata, **({"choices": list(choices)} if choices else {})}
        return Prompt(
            task=self.benchmark,
            messages=[*messages, Message(role="user", content=content)],
            answer=gold,
            verifier=self.verifier,
            metadata=json.dumps(metadata, ensure_ascii=False, sort_keys=True, default=str),
            prompt_id=self.id,
        )

    def _choices(self, sample: int, seed: int) -> tuple[tuple[str, ...], str]:
        """The choices in the order of this sample, and the gold that goes with it."""
        if self.right is None or not self.shuffled:
            return self.choices, self.gold
        order = list(range(len(self.choices)))
        random.Random(request_seed(seed, f"choices of {self.id}", sample)).shuffle(order)
        return tuple(self.choices[i] for i in order), LETTERS[order.index(self.right)]


@dataclass(frozen=True)
class Questions:
    """The questions of a benchmark; `commits`: of the Hub's datasets that they are from, by name."""

    questions: list[BenchmarkQuestion]
    commits: dict[str, str]


def load_questions(name: str, network: bool = True, limit: int | None = None) -> list[BenchmarkQuestion]:
    """The questions of a benchmark in the order of its file, the first `limit` of them; see `questions_at`."""
    return questions_at(name, {}, network, limit).questions


def questions_at(name: str, revisions: Mapping[str, str], network: bool = True, limit: int | None = None) -> Questions:
    """The questions of a benchmark, at the commits that `revisions` names; see `benchmark_rows`.

    Raises UserError, one line each: the data is not to hand (and how to get it), no rows, columns that are not there,
    ids or questions that come twice, golds that are missing or cannot grade. OutsideError where the Hub does not
    answer.
    """
    benchmark = load_benchmark(name)
    found = benchmark_rows(name, network, revisions)
    if isinstance(found, NotAvailable):
        raise (OutsideError if found.outside else UserError)(f"benchmark {name}: {found}")
    rows = found.rows
    if not rows:
        raise UserError(f"benchmark {name}: its file holds no rows; get it again")
    missing = _missing_columns(benchmark, rows[0])
    if missing:
        raise UserError(*(f"benchmark {name}: no column {c!r} ({role}); there is {', '.join(rows[0])}"
                          for role, c in missing))  # fmt: skip
    problems: list[str] = []
    questions: list[BenchmarkQuestion] = []
    for number, row in enumerate(rows):
        try:
            questions.append(_question(name, benchmark, row, number))
        except Unusable as e:
            problems.append(f"benchmark {name}, row {number}: {e}")
    problems += _double_ids(name, questions)
    problems += _bad_golds(name, questions)
    if problems:
        more = [f"… and {len(problems) - 20} more of benchmark {name}"] if len(problems) > 20 else []
        raise UserError(*problems[:20], *more)
    return Questions(_once(name, questions)[:limit], found.commits)


def _missing_columns(benchmark: Benchmark, row: Row) -> list[tuple[str, str]]:
    c = benchmark.columns
    wanted = [("columns.question", c.question), *([("columns.answer", c.answer)] if c.answer else [])]
    wanted += [("columns.metadata", n) for n in c.metadata]
    wanted += [("columns.choices", n) for n in ([c.choices] if isinstance(c.choices, str) else c.choices or [])]
    return [(role, column) for role, column in wanted if column not in row]


def _question(name: str, benchmark: Benchmark, row: Row, number: int) -> BenchmarkQuestion:
    columns = benchmark.columns
    text = (text_of(row[columns.question], columns.question) or "").strip()
    if not text:
        raise Unusable(f"no question in {columns.question}")
    answer = (text_of(row[columns.answer], columns.answer) or "").strip() if columns.answer else ""
    if columns.answer_pattern is not None and answer:
        found = re.search(columns.answer_pattern, answer)
        answer = found.group(1).strip() if found else ""
    if not answer and columns.answer:
        raise Unusable(f"gold missing: {columns.answer} holds no answer")
    choices, right, gold = _choices(benchmark, row, answer)
    given = row.get(columns.id) if columns.id else None
    return BenchmarkQuestion(
        id=stable_hash(name, benchmark.prompt, text, sorted(choices), answer),
        key=str(given) if given is not None else str(number),
        benchmark=name,
        text=text,
        gold=gold,
        template=benchmark.prompt,
        verifier=benchmark.verifier,
        choices=choices,
        right=right,
        shuffled=benchmark.shuffle_choices,
        metadata=row.get("metadata") or {} if benchmark.generated is not None else _metadata(row, columns.metadata),
    )


def _metadata(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    return {name: plain(row[name]) for name in columns}


def _choices(benchmark: Benchmark, row: Row, answer: str) -> tuple[tuple[str, ...], int | None, str]:
    """The choices as they stand in the row, which of them is right, and the gold."""
    columns = benchmark.columns
    if columns.choices is None:
        return (), None, answer
    raw = row[columns.choices] if isinstance(columns.choices, str) else [row[n] for n in columns.choices]
    choices = ["" if c is None else str(c).strip() for c in raw or []]
    if columns.answer_is == "choice":
        choices = [answer, *(c for c in choices if c and c != answer)]
    if not 2 <= len(choices) <= len(LETTERS):
        raise Unusable(f"{len(choices)} choices; from 2 to {len(LETTERS)} can be asked")
    right = LETTERS.find(answer.upper()) if columns.answer_is == "letter" else choices.index(answer)
    if not 0 <= right < len(choices):
        raise Unusable(f"gold {answer!r} is none of its {len(choices)} choices")
    return tuple(choices), right, LETTERS[right]


def _double_ids(name: str, questions: Sequence[BenchmarkQuestion]) -> list[str]:
    twice = [key for key, n in Counter(q.key for q in questions).items() if n > 1]
    if not twice:
        return []
    shown = ", ".join(twice[:MOST_SHOWN]) + (", …" if len(twice) > MOST_SHOWN else "")
    return [f"benchmark {name}: {len(twice)} ids come twice ({shown}); its file holds rows more than once"]


def _once(name: str, questions: Sequence[BenchmarkQuestion]) -> list[BenchmarkQuestion]:
    """Each question once: two rows of the same question and answer would be two samples of one."""
    found = {q.id: q for q in reversed(questions)}
    if len(found) < len(questions):
        text = "benchmark %s: %d of its rows repeat a question and are left out"
        logger.warning(text, name, len(questions) - len(found))
    return [q for q in questions if found[q.id] is q]


def _bad_golds(name: str, questions: Sequence[BenchmarkQuestion]) -> list[str]:
    from openr1.verify import get_verifier

    out = []
    for q in questions:
        prompt = q.prompt()
        why = get_verifier(q.verifier).check_gold(prompt.answer, prompt.info)
        if why:
            out.append(f"benchmark {name}, problem {q.key}: {why}")
    return out
