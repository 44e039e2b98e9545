"""What a stage is given and what it gives back; reading and writing of the folders between stages."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openr1.errors import UserError
from openr1.metrics import MetricLog
from openr1.records import COMPLETION_SCHEMA, VERDICT_SCHEMA, Completion, Prompt, Verdict, from_table, to_table
from openr1.store import AppendStore, Shard

ROWS_PER_FILE = 500_000
PARTIAL = ".partial"


@dataclass(frozen=True)
class Input:
    """An input, resolved: where it is, what kind of thing, and its content hash."""

    ref: str
    path: Path
    kind: str
    hash: str


@dataclass
class Output:
    """An output: a finished folder under the stage's `.partial`, or one that lives in place (a store)."""

    kind: str
    rows: int | None = None
    hash: str | None = None
    in_place: bool = False


@dataclass
class StageResult:
    """What a stage says of itself; the engine puts it into the manifest."""

    outputs: dict[str, Output]
    counts: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)


@dataclass
class StageContext:
    """What a stage is given. `folder` is its own; outputs are written through `partial` and appear when it is done.

    One task of N that share a generate stage has a `shard`, a `folder` of its own and the `store` in common.
    `earlier` holds the results of the stage's last attempt, or else of one of its shards. `model_dir`: the model of a
    rank, which the process that owns the stage has prepared. `logs` is where the attempt keeps its logs.
    """

    run: str
    name: str
    folder: Path
    settings: Any
    inputs: dict[str, Input]
    metrics: MetricLog
    shard: Shard | None = None
    stage_folder: Path | None = None
    earlier: dict[str, Any] = field(default_factory=dict)
    model_dir: Path | None = None
    logs: Path | None = None

    @property
    def store(self) -> Path:
        """The folder of the stage's store, which the shards share."""
        return (self.stage_folder or self.folder) / "store"

    def partial(self, output: str) -> Path:
        """An empty folder to write `output` into; it is renamed into place when the stage is done."""
        path = self.folder / PARTIAL / output
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
        return path

    def path(self, name: str) -> Path:
        """The folder of an input."""
        return self.inputs[name].path


StageFunction = Callable[[StageContext], StageResult]


# -------------------------------------------------------------------------------------------------- folders of rows
def write_rows(folder: Path, rows: Iterable[Any], schema: pa.Schema) -> Output:
    """Rows as Parquet files of at most 500,000 rows; the bytes are a function of the rows."""
    table = rows if isinstance(rows, pa.Table) else to_table(rows, schema)
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, max(table.num_rows, 1), ROWS_PER_FILE)):
        pq.write_table(table.slice(start, ROWS_PER_FILE), folder / f"data-{number:05d}.parquet")
    return Output(kind="rows", rows=table.num_rows)


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a folder of Parquet files, in file order."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UserError(f"{folder}: holds no Parquet file; run the stage that makes it again")
    return pa.concat_tables([pq.read_table(f, columns=columns and list(columns)) for f in files])


def read_prompts(folder: Path) -> list[Prompt]:
    """The prompts of a `prompts` or `rl` folder."""
    return from_table(read_rows(folder), Prompt)


def pass_rates(folder: Path) -> dict[str, float | None]:
    """The pass rate of each prompt of an `rl` folder; None where none of its samples could be graded."""
    table = read_rows(folder, ["prompt_id", "pass_rate"])
    return dict(zip(table["prompt_id"].to_pylist(), table["pass_rate"].to_pylist(), strict=True))


def sft_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows for SFT, {prompt_id, prompt, completion} in messages, from curated messages or prompts with solutions."""
    table = read_rows(folder)
    if "messages" in table.column_names and "verifier" not in table.column_names:
        return [
            {"prompt_id": r["prompt_id"], "prompt": r["messages"][:-1], "completion": r["messages"][-1:]}
            for r in table.to_pylist()
        ]
    return solved_rows(from_table(table, Prompt))


def solved_rows(prompts: Iterable[Prompt]) -> list[dict[str, Any]]:
    """Rows for SFT of the prompts that have a worked solution."""
    return [
        {
            "prompt_id": p.prompt_id,
            "prompt": list(p.messages),
            "completion": [{"role": "assistant", "content": p.solution}],
        }
        for p in prompts
        if p.solution is not None
    ]


# ----------------------------------------------------------------------------------------------------------- stores
def completion_store(folder: Path, identity: dict[str, Any], shard: Shard | None = None) -> AppendStore[Completion]:
    return AppendStore(folder, Completion, COMPLETION_SCHEMA, identity, shard)


def text_hash(text: str) -> str:
    """What ties a verdict to the text that it judges: a verdict on another text is none."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class GradedRow:
    """A verdict with the key of its completion and, in the store of a verify stage, the hash of the text it judges."""

    prompt_id: str
    sample_index: int
    status: str
    score: float | None
    extracted: str | None
    decided_by: str
    ms: float
    verifier: str
    version: str
    detail: str | None
    text_hash: str | None = None

    @classmethod
    def of(cls, key: tuple[str, int], v: Verdict, text_hash: str | None = None) -> GradedRow:
        prompt, sample = key
        return cls(
            prompt, sample, v.status, v.score, v.extracted, v.decided_by, v.ms, v.verifier, v.version, v.detail,
            text_hash,
        )  # fmt: skip

    def verdict(self) -> Verdict:
        return Verdict(
            self.status,  # type: ignore[arg-type]
            self.extracted,
            self.decided_by,
            self.ms,
            self.verifier,
            self.version,
            self.detail,
        )


def verdict_store(folder: Path, identity: dict[str, Any]) -> AppendStore[GradedRow]:
    return AppendStore(folder, GradedRow, VERDICT_SCHEMA, identity)


def other_versions(graders: Iterable[tuple[str, str]]) -> str:
    """`graded by math 1, installed is math 2` where the installed verifiers are of other versions, else "".

    `graders` are (name, version) pairs. A verifier that cannot be imported from here says nothing.
    """
    from openr1.verify import get_verifier

    before, now = [], []
    for name, version in dict.fromkeys(graders):
        with suppress(UserError):
            installed = get_verifier(name).version
            if version and installed != version:
                before.append(f"{name} {version}".strip())
                now.append(f"{name} {installed}".strip())
    return f"graded by {', '.join(before)}, installed is {', '.join(dict.fromkeys(now))}" if before else ""


def graders(store: AppendStore[GradedRow]) -> set[tuple[str, str]]:
    """Name and version of every verifier that the verdicts of a store are of."""
    found: set[tuple[str, str]] = set()
    for table in store.iter_tables(65_536, columns=["verifier", "version"]):
        found.update(zip(table["verifier"].to_pylist(), table["version"].to_pylist(), strict=True))
    return found


def refuse_other_versions(stage: str, store: AppendStore[GradedRow]) -> None:
    """Raise UserError where verdicts in the store are of another version of a verifier than the installed one."""
    versions = other_versions(graders(store))
    if versions:
        raise UserError(f"{stage}: {versions}; rerun=[{stage}]")


def finish_outputs(folder: Path, outputs: dict[str, Output]) -> Iterator[tuple[str, Path]]:
    """Rename the finished outputs into place; yields where each one lies."""
    from openr1.manifest import replace_dir

    for name, output in outputs.items():
        target = folder / name
        if not output.in_place:
            replace_dir(folder / PARTIAL / name, target)
        yield name, target
    if (folder / PARTIAL).exists():
        shutil.rmtree(folder / PARTIAL)
