"""The rows that flow through the pipeline: Prompt, Completion, Verdict, with stable ids and Arrow schemas.

Ids are content hashes, so the same question with the same gold has the same id in every run and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

FinishReason = Literal["stop", "length", "error"]
Status = Literal["correct", "wrong", "no_answer", "truncated", "timeout", "error", "infra_error", "bad_gold"]

PromptType = Literal["reasoning", "general", "harmlessness"]
PROMPT_TYPES: tuple[PromptType, ...] = ("reasoning", "general", "harmlessness")
PREFERENCE_TYPES: tuple[PromptType, ...] = ("general", "harmlessness")

STATUSES: tuple[Status, ...] = (
    "correct", "wrong", "no_answer", "truncated", "timeout", "error", "infra_error", "bad_gold",
)  # fmt: skip
THINK, END_THINK = "<think>", "</think>"
PROMPT_TYPE = "prompt_type"  # the key of a prompt's metadata
MASKED: frozenset[str] = frozenset({"infra_error", "bad_gold"})


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


def stable_hash(*parts: Any, length: int = 16) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of `parts`, cut to `length` digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def request_seed(base: int, prompt_id: str, sample_index: int) -> int:
    """The seed of one draw, in [0, 2^31): a function of (base, prompt, sample), so that k samples are k draws."""
    return int(stable_hash(base, prompt_id, sample_index), 16) % 2**31


def answer_start(text: str) -> int | None:
    """The character behind the last `</think>`; 0 without any thinking; None where the thinking is not closed."""
    end = text.rfind(END_THINK)
    begin = text.rfind(THINK)
    if begin > end:
        return None
    return 0 if end < 0 else end + len(END_THINK)


def score_of(status: str) -> float | None:
    """Law 1: correct is 1; what the model did wrong is 0; a failure of ours is None, which masks the row."""
    if status in MASKED:
        return None
    return 1.0 if status == "correct" else 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question with its gold answer and the verifier that grades it.

    `solution` is a reference completion (a worked trace) where the task has one. `metadata` is a JSON object with
    whatever the verifier needs beyond the gold (numbers of a countdown, the entry of a reasoning-gym task).
    """

    task: str
    messages: list[Message]
    answer: str | None
    verifier: str
    solution: str | None = None
    metadata: str = "{}"
    prompt_id: str = ""

    def __post_init__(self) -> None:
        if not self.prompt_id:
            object.__setattr__(self, "prompt_id", stable_hash(self.messages, self.answer, self.verifier))

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def info(self) -> dict[str, Any]:
        """`metadata`, decoded."""
        return json.loads(self.metadata)

    @property
    def type(self) -> PromptType:
        """What is asked of an answer: to be right (`reasoning`, where nothing is said), helpful, or harmless."""
        found = self.info.get(PROMPT_TYPE) if PROMPT_TYPE in self.metadata else None
        return found if found in PREFERENCE_TYPES else "reasoning"

    def of_type(self, kind: PromptType) -> Prompt:
        """The same prompt, with its type."""
        return replace(self, metadata=json.dumps(self.info | {PROMPT_TYPE: kind}, ensure_ascii=False, sort_keys=True))


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model to one prompt; (prompt_id, sample_index) is its key. Times are seconds.

    `text` holds reasoning and answer; `answer_start` is the character where the answer begins: behind the last
    `</think>`, 0 where nothing was thought, None where the thinking never ended.
    """

    prompt_id: str
    sample_index: int
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seed: int
    error: str | None = None
    seconds: float = 0.0
    finished_at: float = 0.0
    answer_start: int | None = -1  # -1: to be computed

    def __post_init__(self) -> None:
        if self.answer_start == -1:
            object.__setattr__(self, "answer_start", answer_start(self.text))

    @property
    def reasoning(self) -> str | None:
        """What was thought, without the tags; None where nothing was."""
        thought = self.text if self.answer_start is None else self.text[: self.answer_start]
        return thought.replace(THINK, "").replace(END_THINK, "").strip() or None

    @property
    def answer(self) -> str | None:
        """What stands behind the reasoning; None where the reasoning never ended."""
        return None if self.answer_start is None else self.text[self.answer_start :].strip()

    @property
    def key(self) -> tuple[str, int]:
        return (self.prompt_id, self.sample_index)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says about one completion. `score` is None where the row is masked (law 1)."""

    status: Status
    extracted: str | None = None
    decided_by: str = ""
    ms: float = 0.0
    verifier: str = ""
    version: str = ""
    detail: str | None = None
    score: float | None = field(default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", score_of(self.status))


@cache
def _schemas() -> dict[str, Any]:
    """The Arrow types, built on first use: a grader that never touches a table need not import Arrow."""
    import pyarrow as pa

    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    prompt = pa.schema(
        [
            ("prompt_id", pa.string()),
            ("task", pa.string()),
            ("messages", message),
            ("answer", pa.string()),
            ("verifier", pa.string()),
            ("solution", pa.string()),
            ("metadata", pa.string()),
        ]
    )
    completion = pa.schema(
        [
            ("prompt_id", pa.string()),
            ("sample_index", pa.int32()),
            ("text", pa.string()),
            ("finish_reason", pa.string()),
            ("prompt_tokens", pa.int32()),
            ("completion_tokens", pa.int32()),
            ("seed", pa.int64()),
            ("error", pa.string()),
            ("seconds", pa.float64()),
            ("finished_at", pa.float64()),
            ("answer_start", pa.int32()),
        ]
    )
    verdict = pa.schema(
        [
            ("prompt_id", pa.string()),
            ("sample_index", pa.int32()),
            ("status", pa.string()),
            ("score", pa.float64()),
            ("extracted", pa.string()),
            ("decided_by", pa.string()),
            ("ms", pa.float64()),
            ("verifier", pa.string()),
            ("version", pa.string()),
            ("detail", pa.string()),
            ("text_hash", pa.string()),
        ]
    )
    return {
        "MESSAGE_TYPE": message,
        "PROMPT_SCHEMA": prompt,
        "COMPLETION_SCHEMA": completion,
        "VERDICT_SCHEMA": verdict,
    }


def __getattr__(name: str) -> Any:
    if name in ("MESSAGE_TYPE", "PROMPT_SCHEMA", "COMPLETION_SCHEMA", "VERDICT_SCHEMA"):
        return _schemas()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


TIME_COLUMNS: frozenset[str] = frozenset({"seconds", "finished_at", "ms"})

Row = TypeVar("Row")


def to_dict(row: Any) -> dict[str, Any]:
    """A record as a plain dict."""
    return asdict(row)


def to_table(rows: Iterable[Any], schema: pa.Schema) -> pa.Table:
    """Records or dicts as an Arrow table; a key that the schema lacks is dropped, one that a row lacks is null."""
    import pyarrow as pa

    dicts = [row if isinstance(row, Mapping) else asdict(row) for row in rows]
    columns = {name: [row.get(name) for row in dicts] for name in schema.names}
    return pa.table(columns, schema=schema)


def from_table(table: pa.Table, kind: type[Row]) -> list[Row]:
    """The rows of a table as records of `kind`; columns that the record lacks are ignored."""
    names = [f.name for f in fields(kind) if f.init and f.name in table.column_names]  # type: ignore[arg-type]
    return [kind(**row) for row in table.select(names).to_pylist()]


def prompts_by_id(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    return {p.prompt_id: p for p in prompts}
