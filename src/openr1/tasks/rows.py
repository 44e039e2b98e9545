"""Rows of a data set to questions: columns by name, values of any type to text, and what cannot be used aside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openr1.errors import UserError, did_you_mean
from openr1.records import Message
from openr1.tasks.base import Question, text_key
from openr1.tasks.settings import ColumnSettings

Row = Mapping[str, Any]


@dataclass
class Source:
    """Rows of one file or one split of a data set. `where` is its name for people; `identity` pins its content."""

    where: str
    columns: list[str]
    rows: Iterable[Row]
    identity: dict[str, Any] = field(default_factory=dict)


class Unusable(Exception):
    """A row that cannot become a question, with the reason."""


def check_columns(source: Source, columns: ColumnSettings) -> None:
    """Refuse a source that lacks a mapped column, naming what is there."""
    problems = []
    for role, name in columns.model_dump(exclude={"no_answer"}).items():
        for column in name if role == "metadata" else [name]:
            optional = role == "problem" and columns.messages is not None
            if column is not None and column not in source.columns and not optional:
                hint = did_you_mean(column, source.columns)
                there = ", ".join(source.columns) or "nothing"
                problems.append(
                    f"{source.where}: no column {column!r} (columns.{role}); there is {there}; "
                    f"{hint if hint.startswith('did') else f'set columns.{role} to one of them'}"
                )
    if problems:
        raise UserError(*problems)


def question_of(row: Row, columns: ColumnSettings) -> Question:
    """One row as a question.

    Raises:
        Unusable: no question, an answer that is no plain value, a solution that was cut off.
    """
    solution = None if columns.solution is None else text_of(row.get(columns.solution), columns.solution)
    messages: list[Message] | None = None
    if columns.messages is not None:
        messages, reply = conversation(row.get(columns.messages), columns.messages)
        solution = solution if solution is not None else reply
        text = messages[-1]["content"]
    else:
        text = text_of(row.get(columns.problem or ""), columns.problem or "") or ""
    if not text.strip():
        raise Unusable("no question")
    if columns.finish_reason is not None and row.get(columns.finish_reason) not in (None, "stop", "eos"):
        raise Unusable(f"solution was cut off ({columns.finish_reason} is {row.get(columns.finish_reason)!r})")
    answer = None if columns.answer is None else text_of(row.get(columns.answer), columns.answer)
    if columns.answer is not None and (answer is None or not answer.strip()):
        raise Unusable("no answer")
    if answer is not None and answer.strip() in columns.no_answer:
        raise Unusable(f"no answer that can be graded ({answer.strip()})")
    context = [m["content"] for m in messages[:-1]] if messages else []
    return Question(
        text=text,
        answer=answer,
        key=text_key("\n".join([*context, text])),
        solution=solution,
        messages=messages,
        metadata={name: plain(row.get(name)) for name in columns.metadata},
    )


def text_of(value: Any, column: str) -> str | None:
    """A cell as text: bytes are UTF-8, a whole float is an integer, null is None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            raise Unusable(f"{column} holds bytes that are not UTF-8") from None
    if isinstance(value, float):
        return None if value != value else str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list | tuple | dict):
        raise Unusable(f"{column} holds a {type(value).__name__}, not a plain value")
    return str(value)


def conversation(value: Any, column: str) -> tuple[list[Message], str | None]:
    """The turns up to the last user turn, and the assistant's reply to it if there is one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unusable(f"{column} is no list of messages") from None
    if not isinstance(value, list) or not all(
        isinstance(m, Mapping) and "role" in m and "content" in m for m in value
    ):
        raise Unusable(f"{column} is no list of messages with role and content")
    turns = [Message(role=str(m["role"]), content=text_of(m["content"], column) or "") for m in value]
    users = [i for i, m in enumerate(turns) if m["role"] == "user"]
    if not users:
        raise Unusable(f"{column} has no user turn")
    reply = turns[users[-1] + 1]["content"] if len(turns) > users[-1] + 1 else None
    return turns[: users[-1] + 1], reply


def plain(value: Any) -> Any:
    """A cell as JSON: bytes and whatever JSON lacks become text."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
