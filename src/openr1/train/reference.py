"""The reference model that is refreshed while GRPO trains belongs to a checkpoint: TRL loads the first one again.

Without it the KL term after a resume would be measured from the model that the stage began with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

FILE = "reference.pt"


def save_reference(trainer: Any, folder: Path) -> None:
    """Keep the reference model, once it is no longer the one that training began with. Every rank calls this."""
    arguments = trainer.args
    if not arguments.sync_ref_model or trainer.state.global_step < arguments.ref_model_sync_steps:
        return
    with _whole(trainer) as model:
        if trainer.world.main:
            torch.save({k: v.detach().cpu() for k, v in model.state_dict().items()}, folder / FILE)


def load_reference(trainer: Any, folder: Path) -> None:
    """Put the reference model of a checkpoint back, if it has one. Every rank calls this."""
    if not (folder / FILE).exists():
        return
    weights = torch.load(folder / FILE, map_location="cpu", weights_only=True)
    with _whole(trainer) as model:
        model.load_state_dict(weights)


@contextmanager
def _whole(trainer: Any) -> Iterator[Any]:
    """The reference model with all its parameters, which ZeRO-3 keeps in parts; changes reach all ranks."""
    model = trainer.accelerator.unwrap_model(trainer.ref_model)
    if trainer.parallel.kind != "zero3":
        yield model
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):
        yield model
