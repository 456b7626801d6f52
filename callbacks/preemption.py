"""Preemption: SIGTERM ends the run at the next step, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.checkpoints import Checkpoints


class Preemption(Callback):
    """On SIGTERM: finish the step, save on all ranks, stop; ``preempted`` tells the caller.

    A signal that reaches one rank only would leave the others waiting for it, so ranks agree at
    the end of each step.
    """

    def __init__(self) -> None:
        self.preempted = False
        self._asked = False
        self._before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM from Lightning, whose handler would end the run at once, with status 0."""
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give SIGTERM back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop when any rank was asked to, at a step of the optimiser."""
        module: Any = pl_module
        if not module.step_frames:
            return  # gradients accumulate
        if not trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            return
        self.preempted = trainer.should_stop = True
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Checkpoints):
                callback.save_last(trainer)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self._asked = True
