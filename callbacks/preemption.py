"""Preemption: SIGTERM ends the run at the next step, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Preemption(Callback):
    """On SIGTERM: finish the step, save on all ranks, stop; ``preempted`` tells the caller.

    A signal that reaches one rank only would leave the others waiting for it, so ranks agree at
    the end of each step (Lightning's own handler talks to the other ranks when the signal comes,
    wherever they are, and hangs: Lightning-AI/pytorch-lightning#20806).

    Comes first: it takes the signal before others begin what may last, and
    :class:`~callbacks.checkpoints.Checkpoints` saves at the end of the step that it stops at.
    """

    def __init__(self) -> None:
        self.preempted = False
        self._asked = self._stepped = False
        self._before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM from Lightning, whose handler would end the run at once, with status 0."""
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on there is a step to finish and to save."""
        self._stepped = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when any rank was asked to, at a step of the optimiser."""
        module: Any = pl_module
        if not module.step_frames:
            return  # gradients accumulate
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            self.preempted = trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give SIGTERM back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if not self._stepped:
            raise SIGTERMException  # nothing to lose
        self._asked = True
