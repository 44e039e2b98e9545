"""Arrow schemas of the curated sets. Column names follow Open-R1's published datasets where they exist there."""

from __future__ import annotations

import pyarrow as pa

from openr1.records import MESSAGE_TYPE, PROMPT_SCHEMA

SFT_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample_index", pa.int32()),
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("messages", MESSAGE_TYPE),
        ("completion_tokens", pa.int32()),
        ("pass_rate", pa.float64()),
    ]
)
RL_SCHEMA = PROMPT_SCHEMA.append(pa.field("pass_rate", pa.float64()))
ALL_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("verifier", pa.string()),
        ("generations", pa.list_(pa.string())),
        ("finish_reasons", pa.list_(pa.string())),
        ("statuses", pa.list_(pa.string())),
        ("correctness_count", pa.int32()),
        ("pass_rate", pa.float64()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample_index", pa.int32()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("completion", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)
