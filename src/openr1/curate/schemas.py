"""Arrow schemas of the curated sets. Column names are those of OpenR1-Math-220k where it has them."""

from __future__ import annotations

import pyarrow as pa

from openr1.records import MESSAGE_TYPE, PROMPT_SCHEMA

# taken from a prompt's metadata where the source had them
FROM_METADATA = ("problem_type", "question_type", "source", "uuid")
_PROBLEM = [
    ("problem", pa.string()),
    ("solution", pa.string()),
    ("answer", pa.string()),
    *((name, pa.string()) for name in FROM_METADATA),
]

SFT_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample_index", pa.int32()),
        ("task", pa.string()),
        *_PROBLEM,
        ("messages", MESSAGE_TYPE),
        ("completion_tokens", pa.int32()),
        ("pass_rate", pa.float64()),
    ]
)
RL_SCHEMA = PROMPT_SCHEMA.append(pa.field("pass_rate", pa.float64()))
ALL_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("task", pa.string()),
        *_PROBLEM,
        ("verifier", pa.string()),
        ("messages", MESSAGE_TYPE),  # with the first generation that was kept; the prompt alone where none was
        ("generations", pa.list_(pa.string())),
        ("sample_indices", pa.list_(pa.int32())),
        ("finish_reasons", pa.list_(pa.string())),
        ("is_reasoning_complete", pa.list_(pa.bool_())),
        ("correctness_math_verify", pa.list_(pa.bool_())),  # null where the verifier is not math, or had no say
        ("statuses", pa.list_(pa.string())),
        ("extracted", pa.list_(pa.string())),
        ("completion_tokens", pa.list_(pa.int32())),
        ("dropped_by", pa.list_(pa.string())),  # the step; null for what is in the SFT set
        ("correctness_count", pa.int32()),
        ("pass_rate", pa.float64()),
        ("in_rl", pa.bool_()),
        ("split", pa.string()),
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("unit", pa.string()),  # completion: not in the SFT set; prompt: not in the RL set
        ("prompt_id", pa.string()),
        ("sample_index", pa.int32()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("completion", pa.string()),
        ("status", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
