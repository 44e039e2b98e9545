"""The table of samples behind a benchmark's numbers: SAMPLES_SCHEMA, and what a benchmark knows besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from openr1.evaluate.summary import SAMPLES_SCHEMA
from openr1.records import to_table

if TYPE_CHECKING:
    from openr1.evaluate.scores import Sample

BENCHMARK_SAMPLES_SCHEMA = pa.schema(
    [
        *SAMPLES_SCHEMA,
        ("benchmark", pa.string()),
        ("question_key", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("seed", pa.int64()),
        ("unclosed", pa.bool_()),
        ("second", pa.string()),
    ]
)


def samples_table(samples: Sequence[Sample], mode: str = "sampled") -> pa.Table:
    """Rows in the order of the samples; `question` is the prompt as this sample put it, `gold` its gold."""
    return to_table(
        [
            {
                "prompt_id": s.question.id,
                "question": s.prompt.question,
                "gold": s.prompt.answer,
                "mode": mode,
                "sample_index": s.completion.sample_index,
                "completion": s.completion.text,
                "finish_reason": s.completion.finish_reason,
                "completion_tokens": s.completion.completion_tokens,
                "status": s.verdict.status,
                "score": s.verdict.score,
                "extracted": s.verdict.extracted,
                "decided_by": s.verdict.decided_by,
                "benchmark": s.question.benchmark,
                "question_key": s.question.key,
                "prompt_tokens": s.completion.prompt_tokens,
                "seed": s.completion.seed,
                "unclosed": s.completion.answer_start is None,
                "second": s.second,
            }
            for s in samples
        ],
        BENCHMARK_SAMPLES_SCHEMA,
    )
