"""Writes the sets: `sft` shuffled, `rl` and `all` in the order of the prompts, `dropped` with steps and reasons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openr1.curate.ledger import KEPT, Ledger
from openr1.curate.parquet import RowFolder, ShuffledFolder
from openr1.curate.schemas import ALL_SCHEMA, DROPPED_SCHEMA, FROM_METADATA, RL_SCHEMA, SFT_SCHEMA
from openr1.curate.source import BYTES_PER_TOKEN, Buckets, Prompts, user_turns
from openr1.records import MESSAGE_TYPE

ALL_GROUP = 256  # rows: each holds every generation of its prompt
BUCKET_COLUMNS = (
    "prompt", "sample_index", "text", "finish_reason", "completion_tokens", "answer_start", "status", "extracted",
)  # fmt: skip


class Sets:
    """The outputs, written bucket by bucket; `folders` says where each lies."""

    def __init__(
        self, folders: dict[str, Path], parts: Sequence[str], prompts: Prompts, ledger: Ledger, seed: int, work: Path
    ) -> None:
        self.parts = ["", *parts]
        self.prompts, self.ledger = prompts, ledger
        left = ledger.left()
        kept = ledger.part[ledger.prompt[left]]
        row_bytes = BYTES_PER_TOKEN * float(ledger.tokens[left].mean()) if len(left) else 0.0
        self.sft = []
        for i, part in enumerate(self.parts):
            folder = RowFolder(folders[_named("sft", part)], SFT_SCHEMA)
            self.sft.append(ShuffledFolder(folder, int((kept == i).sum()), row_bytes, seed, work / f"shuffle-{i}"))
        self.rl = [RowFolder(folders[_named("rl", part)], RL_SCHEMA) for part in self.parts]
        self.all = RowFolder(folders["all"], ALL_SCHEMA, ALL_GROUP)
        self.dropped = RowFolder(folders["dropped"], DROPPED_SCHEMA)

    def write(self, buckets: Buckets) -> dict[str, int]:
        """Write every output; returns their rows."""
        start = 0
        for bucket, prompts in enumerate(self.prompts.ranges(buckets.per_bucket)):
            piece = _Piece(self, bucket, start, prompts, buckets)
            piece.write()
            start += prompts.num_rows
        rows = {_named("sft", part): out.close() for part, out in zip(self.parts, self.sft, strict=True)}
        rows |= {_named("rl", part): folder.close() for part, folder in zip(self.parts, self.rl, strict=True)}
        return rows | {"all": self.all.close(), "dropped": self.dropped.close()}


def _named(kind: str, part: str) -> str:
    return f"{kind}_{part}" if part else kind


class _Piece:
    """The prompts of one bucket with their completions, on the way into the outputs."""

    def __init__(self, sets: Sets, bucket: int, start: int, prompts: pa.Table, buckets: Buckets) -> None:
        self.sets, self.ledger = sets, sets.ledger
        self.numbers = np.arange(start, start + prompts.num_rows)
        low, high = buckets.edges[bucket], buckets.edges[bucket + 1]
        self.drop, self.rank = self.ledger.drop[low:high], self.ledger.rank[low:high]
        self.owner = self.ledger.prompt[low:high].astype(np.int64) - start  # [rows] prompt within the piece
        self.rows = buckets.columns(bucket, BUCKET_COLUMNS)
        self.kept = np.flatnonzero(self.drop == KEPT)
        self.kept = self.kept[np.lexsort((self.rank[self.kept], self.owner[self.kept]))]
        self.part = self.ledger.part[self.numbers]
        self.prompts = _with_metadata(prompts, self.ledger.pass_rate[self.numbers])

    def write(self) -> None:
        in_rl = self.ledger.rl_drop[self.numbers] == KEPT
        for i, folder in enumerate(self.sets.rl):
            folder.write(self.prompts.filter(pa.array(in_rl & (self.part == i))))
        for i, out in enumerate(self.sets.sft):
            out.write(self._sft(self.kept[self.part[self.owner[self.kept]] == i]))
        self.sets.all.write(self._all(in_rl))
        self.sets.dropped.write(self._dropped())

    def _sft(self, rows: np.ndarray) -> pa.Table:
        prompts = self.prompts.take(pa.array(self.owner[rows]))
        mine = self.rows.take(pa.array(rows))
        messages = with_reply(_one(prompts["messages"]), _one(mine["text"]))
        columns = {name: prompts[name] for name in SFT_SCHEMA.names if name in prompts.column_names}
        columns |= {name: mine[name] for name in ("sample_index", "completion_tokens")} | {"messages": messages}
        return pa.table({name: columns[name] for name in SFT_SCHEMA.names}).cast(SFT_SCHEMA)

    def _all(self, in_rl: np.ndarray) -> pa.Table:
        counts = np.bincount(self.owner, minlength=len(self.numbers))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())

        def lists(values: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.Array:
            return pa.ListArray.from_arrays(offsets, _one(values).cast(kind))

        # the first prompt of an id owns the completions; the first kept one of them ends the conversation
        first = np.full(len(self.numbers), -1)
        first[self.owner[self.kept[::-1]]] = self.kept[::-1]
        reply = _one(self.rows["text"]).take(pa.array(first, pa.int64(), mask=first < 0))
        right = pc.fill_null(pc.equal(_one(self.rows["status"]), "correct"), False)
        columns = {name: self.prompts[name] for name in ALL_SCHEMA.names if name in self.prompts.column_names} | {
            "messages": with_reply(_one(self.prompts["messages"]), reply),
            "generations": lists(self.rows["text"], pa.string()),
            "sample_indices": lists(self.rows["sample_index"], pa.int32()),
            "finish_reasons": lists(self.rows["finish_reason"], pa.string()),
            "is_reasoning_complete": lists(self._complete(), pa.bool_()),
            "correctness_math_verify": lists(self._math(right), pa.bool_()),
            "statuses": lists(self.rows["status"], pa.string()),
            "extracted": lists(self.rows["extracted"], pa.string()),
            "completion_tokens": lists(self.rows["completion_tokens"], pa.int32()),
            "dropped_by": lists(self._what(self.drop)[0], pa.string()),
            "correctness_count": np.bincount(self.owner[right.to_numpy(False)], minlength=len(self.numbers)),
            "in_rl": in_rl,
            "split": pa.array(["train", *self.sets.parts[1:]]).take(pa.array(self.part)),
        }
        table = pa.table({name: columns[name] for name in ALL_SCHEMA.names}).cast(ALL_SCHEMA)
        return table.filter(pa.array(~self.ledger.repeat[self.numbers]))

    def _complete(self) -> pa.Array:
        ended = pc.is_valid(_one(self.rows["answer_start"]))
        return pc.and_(ended, pc.not_equal(_one(self.rows["finish_reason"]), "error"))

    def _math(self, right: pa.Array) -> pa.Array:
        """Verdicts of the math verifier; null where another one judged, or where the row is masked."""
        verifier = _one(self.prompts["verifier"]).take(pa.array(self.owner))
        masked = pc.is_in(_one(self.rows["status"]), value_set=pa.array(["infra_error", "bad_gold"]))
        judged = pc.and_(
            pc.equal(verifier, "math"), pc.and_(pc.is_valid(_one(self.rows["status"])), pc.invert(masked))
        )
        return pc.if_else(judged, right, pa.scalar(None, pa.bool_()))

    def _dropped(self) -> pa.Table:
        """Prompts that left the RL set, each followed by its completions that left the SFT set."""
        prompts = np.flatnonzero(self.ledger.rl_drop[self.numbers] != KEPT)
        rows = np.flatnonzero(self.drop != KEPT)
        owner = np.concatenate([prompts, self.owner[rows]])
        row = np.concatenate([np.full(len(prompts), -1), rows])
        codes = np.concatenate([self.ledger.rl_drop[self.numbers][prompts], self.drop[rows]])
        order = np.lexsort((row, owner))
        owner, row, codes = owner[order], row[order], codes[order]
        of_prompt = self.prompts.take(pa.array(owner))
        of_row = self.rows.select(["sample_index", "text", "status"]).take(pa.array(row, pa.int64(), mask=row < 0))
        step, reason, detail = self._what(codes)
        return pa.table(
            {
                "unit": np.where(row < 0, "prompt", "completion"),
                "prompt_id": of_prompt["prompt_id"],
                "sample_index": of_row["sample_index"],
                "question": of_prompt["problem"],
                "answer": of_prompt["answer"],
                "completion": of_row["text"],
                "status": of_row["status"],
                "step": step,
                "reason": reason,
                "detail": detail,
            }
        ).cast(DROPPED_SCHEMA)

    def _what(self, codes: np.ndarray) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Step, reason and detail of drop codes; null for what was kept."""
        unique, inverse = np.unique(codes, return_inverse=True)
        known = [self.ledger.what(code) if code != KEPT else (None, None) for code in unique.tolist()]
        index = pa.array(inverse.reshape(-1))
        columns = (
            [step for step, _ in known],
            [drop.reason if drop else None for _, drop in known],
            [drop.detail if drop else None for _, drop in known],
        )
        return tuple(pa.array(c, pa.string()).take(index) for c in columns)  # type: ignore[return-value]


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _with_metadata(prompts: pa.Table, rates: np.ndarray) -> pa.Table:
    """The prompts' columns, the last question, the pass rate, and what the metadata holds under Open-R1's names."""
    questions = [turns[-1] if turns else "" for turns in user_turns(prompts["messages"])]
    table = prompts.append_column("problem", pa.array(questions, pa.string()))
    table = table.append_column("pass_rate", pa.array(rates, mask=np.isnan(rates)))
    found = [json.loads(m or "{}") for m in prompts["metadata"].to_pylist()]
    for name in FROM_METADATA:
        values = [None if (v := f.get(name)) is None else str(v) for f in found]
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


def with_reply(messages: pa.ListArray, replies: pa.Array) -> pa.Array:
    """Conversations [n] with one assistant's turn more each; a null reply adds none."""
    turns = messages.flatten()
    counts = pc.fill_null(pc.list_value_length(messages), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    has = pc.is_valid(replies).to_numpy(zero_copy_only=False)
    said = replies.filter(pa.array(has)).cast(pa.string())
    answers = pa.StructArray.from_arrays(
        [pa.array(["assistant"] * len(said), pa.string()), said], fields=list(MESSAGE_TYPE.value_type)
    )
    ends = np.cumsum(counts + has)
    place = np.empty(len(turns) + len(said), np.int64)
    at_reply = (ends - 1)[has]
    is_reply = np.zeros(len(place), bool)
    is_reply[at_reply] = True
    place[~is_reply] = np.arange(len(turns))
    place[is_reply] = len(turns) + np.arange(len(said))
    values = pa.concat_arrays([turns.cast(MESSAGE_TYPE.value_type), answers]).take(pa.array(place))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), values)
