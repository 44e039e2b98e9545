"""Answers to the same few prompts through training, for people to read: one file a time, probes/step-NNNNNN.parquet.

Asked at step 0, every `every` steps and at the end, greedily, with every generator put back, so that training goes as
it would without them. A file is written before the checkpoint of its step; on resume later ones go and are written
again, with the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from openr1.manifest import write_atomic
from openr1.records import Prompt, prompts_by_id
from openr1.train.parallel import World
from openr1.train.settings import ProbeSettings
from openr1.train.step_log import StepLog
from openr1.train.stop import model_answers

FOLDER = "probes"
SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("prompt_id", pa.string()),
        ("question", pa.string()),
        ("gold", pa.string()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("completion_tokens", pa.int32()),
        ("status", pa.string()),
        ("extracted", pa.string()),
    ]
)


def path_of(work: Path, step: int) -> Path:
    """Where the answers after `step` optimizer steps are kept."""
    return work / FOLDER / f"step-{step:06d}.parquet"


class Probes(TrainerCallback):
    """Asks the first `settings.prompts` prompts and writes the graded answers.

    Must come before the StepLog among the callbacks, whose step seconds leave the asking out.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        prompts: Sequence[Prompt],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        log: StepLog,
        work: Path,
        prefill: str | None,
        world: World,
    ) -> None:
        self.settings, self.model, self.tokenizer, self.log, self.world = settings, model, tokenizer, log, world
        self.work, self.prefill = work, prefill
        self.prompts = list(prompts_by_id(prompts).values())[: settings.prompts]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._ask(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        last = state.global_step >= state.max_steps or control.should_training_stop
        if last or state.global_step % self.settings.every == 0:
            self._ask(state.global_step)

    def _ask(self, step: int) -> None:
        """Rank 0 asks and writes, the others wait for it."""
        self.world.share(lambda: self._write(step))

    def _write(self, step: int) -> None:
        with self.log.aside("evaluate"):
            answers = model_answers(
                self.model, self.tokenizer, self.prompts, self.settings.max_new_tokens, len(self.prompts), self.prefill
            )
        rows = [
            {
                "step": step, "prompt_id": prompt.prompt_id, "question": prompt.question, "gold": prompt.answer,
                "completion": completion.text, "finish_reason": completion.finish_reason,
                "completion_tokens": completion.completion_tokens, "status": verdict.status,
                "extracted": verdict.extracted,
            }
            for prompt, (completion, verdict) in zip(self.prompts, answers, strict=True)
        ]  # fmt: skip
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
        write_atomic(path_of(self.work, step), buffer.getvalue())
