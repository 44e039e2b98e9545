"""The best checkpoint by an evaluation on development prompts becomes the stage's output, when that is asked for.

Accuracy is measured every so many steps and at the end, with every generator put back. The weights of the best step so
far lie in `best-N/`; what was measured is kept in the account, and so in every checkpoint. A resume forgets what came
after its checkpoint, and a loser goes only once a checkpoint knows who beat it: a stage that was killed chooses what
one that was not would have chosen. Of equals the earliest stays.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from openr1.errors import UserError
from openr1.manifest import replace_dir
from openr1.records import Prompt
from openr1.train.account import Account
from openr1.train.adapters import with_adapters
from openr1.train.parallel import World
from openr1.train.settings import BestSettings, LoraSettings
from openr1.train.step_log import StepLog
from openr1.train.stop import measured_accuracy

NAME = "best-"


class Best(TrainerCallback):
    """Measures, and keeps the best weights. Must come after what ends training, and before the StepLog."""

    def __init__(
        self,
        settings: BestSettings,
        dev: Sequence[Prompt],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        log: StepLog,
        work: Path,
        world: World,
    ) -> None:
        self.settings, self.model, self.tokenizer, self.log = settings, model, tokenizer, log
        self.work, self.world = work, world
        self.prompts = list(dev)[: settings.prompts]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forget what a killed process kept of later steps."""
        if self.world.main:
            for folder in _kept(self.work):
                if _step(folder) > state.global_step:
                    shutil.rmtree(folder)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        last = state.global_step >= state.max_steps or control.should_training_stop
        if not last and state.global_step % self.settings.every:
            return
        account = self.log.account
        with self.log.aside("evaluate"):
            accuracy = self.world.share(
                lambda: measured_accuracy(self.model, self.tokenizer, self.prompts, self.settings)
            )
            account.measured[str(state.global_step)] = accuracy
            found = account.best()
            if found is not None and found["step"] == state.global_step and self.world.main:
                self._keep(state.global_step, model)
        self.log.extra["accuracy"] = accuracy

    def _keep(self, step: int, wrapped: Any) -> None:
        """The weights of this step: the whole model, or the adapters that are trained."""
        target = self.work / f"{NAME}{step}"
        aside = self.work / f".{NAME}{step}"
        shutil.rmtree(aside, ignore_errors=True)
        getattr(wrapped, "module", wrapped).save_pretrained(aside)
        replace_dir(aside, target)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint that was just written knows the best: the others can go."""
        found = self.log.account.best()
        if found is not None and self.world.main:
            for folder in _kept(self.work):
                if _step(folder) != found["step"]:
                    shutil.rmtree(folder)


def best_model(work: Path, account: Account, lora: LoraSettings | None, base: Path) -> PreTrainedModel:
    """The whole model of the best step. Raises UserError where its weights are gone."""
    from openr1.models.source import load_model

    found = account.best()
    folder = work / f"{NAME}{found['step'] if found else 0}"
    if not folder.is_dir():
        raise UserError(f"{folder}: the best checkpoint is gone, so there is no model to put out; rerun the stage")
    return load_model(folder, "auto") if lora is None else with_adapters(base, folder)


def _kept(work: Path) -> list[Path]:
    return [p for p in work.glob(f"{NAME}*") if _step(p) >= 0]


def _step(folder: Path) -> int:
    number = folder.name.removeprefix(NAME)
    return int(number) if number.isdigit() else -1
