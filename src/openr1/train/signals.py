"""Emergency checkpoints: SIGUSR1 saves at the end of the running step, SIGTERM saves there and ends training.

The handler only remembers; at the end of each step all ranks agree on what any of them was asked for, so that they act
at the same one. The same command then gives what it would have given without the signal.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from openr1.errors import Terminated
from openr1.train.account import Account
from openr1.train.parallel import World

logger = logging.getLogger("openr1")

STOP = 1 << 32  # so that one sum over all ranks tells both wishes


class Signals(TrainerCallback):
    """Heeds SIGUSR1 and SIGTERM while it is `listening`. Must come after the callbacks that end training."""

    def __init__(self, account: Account, world: World) -> None:
        self.account, self.world = account, world
        self.ended_at: int | None = None
        self._asked = {signal.SIGUSR1: False, signal.SIGTERM: False}
        self._pid = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Heed the signals in the block. Raises Terminated where training ended because of one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in self._asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.ended_at is not None:
            raise Terminated(
                f"ended by SIGTERM after step {self.ended_at}, checkpoint-{self.ended_at} holds it; the same command "
                "goes on from there"
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked child, which ends as it always did
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked[signal.Signals(number)] = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        asked = self.world.total(self._asked[signal.SIGUSR1] + STOP * self._asked[signal.SIGTERM])
        if not asked:
            return
        control.should_save = True
        if asked >= STOP and self.account.stopped is None:
            self.ended_at, control.should_training_stop = state.global_step, True
        elif asked < STOP:
            logger.info("SIGUSR1: saving checkpoint-%d", state.global_step)
        self._asked[signal.SIGUSR1] = False
