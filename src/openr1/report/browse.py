"""Replies to read: which questions of a benchmark are shown, and how. Ids and verdicts alone decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openr1.report.document import Comparison, Sample
from openr1.report.numbers import plural

QUESTIONS, PER_QUESTION, LONGEST = 24, 4, 6_000
Row = Mapping[str, Any]


def browsable(rows: Sequence[Row]) -> list[Comparison]:
    """Up to 24 questions with up to 4 samples each: first those that go both ways, then by smallest id."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt_id"], []).append(row)
    mixed = sorted(q for q, g in groups.items() if len({r["status"] == "correct" for r in g}) > 1)
    rest = sorted(q for q in groups if q not in set(mixed))
    chosen = mixed[: QUESTIONS // 2]
    chosen += rest[: QUESTIONS - len(chosen)]
    chosen += mixed[QUESTIONS // 2 :][: QUESTIONS - len(chosen)]
    return [_question(groups[q]) for q in chosen]


def _question(group: Sequence[Row]) -> Comparison:
    first = group[0]
    right = sum(r["status"] == "correct" for r in group)
    label = f"{first.get('question_key') or first['prompt_id']}: {right} of {plural(len(group), 'sample')} correct"
    shown = [*[r for r in group if r["status"] == "correct"][:2], *[r for r in group if r["status"] != "correct"]]
    samples = [sample_of(r, f"sample {r['sample_index']}") for r in shown[:PER_QUESTION]]
    return Comparison(label, str(first["question"] or ""), str(first["gold"] or ""), samples)


def sample_of(row: Row, title: str) -> Sample:
    """One reply with its verdict."""
    status, text = str(row["status"]), str(row["completion"] or "")
    cut = f"\n[… {len(text) - LONGEST:,} characters more in samples/]" if len(text) > LONGEST else ""
    read = "no answer found" if row["extracted"] is None else f"answer read: {row['extracted']}"
    detail = [read, plural(int(row["completion_tokens"] or 0), "token"), f"ended by {row['finish_reason']}"]
    detail += [f"decided by {row['decided_by']}"] if row["decided_by"] else []
    detail += [f"math-verify: {row['second']}"] if row.get("second") not in (None, status) else []
    tone = "good" if status == "correct" else "bad"
    return Sample(title, text[:LONGEST] + cut, status.replace("_", " "), tone, " · ".join(detail))  # type: ignore[arg-type]
