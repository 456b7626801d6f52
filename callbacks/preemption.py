"""Preemption: SIGTERM or Ctrl-C ends the run at the next step, with a checkpoint."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from agent_scaling.runtime.terminal import is_first
from agent_scaling.training.hooks import StopsRuns, run_module

SAVING = b"\nCtrl-C: the run stops once this step is done and saved; again: at once\n"


class Preemption(StopsRuns):
    """On SIGTERM or Ctrl-C: finish the step, save on all ranks, stop; ``stopped_by`` tells the
    caller. A second Ctrl-C does not wait.

    A signal that reaches one rank only would leave the others waiting for it, so ranks agree at
    the end of each step (Lightning's own handler talks to the other ranks when the signal comes,
    wherever they are, and hangs: Lightning-AI/pytorch-lightning#20806).

    Comes first: it takes the signals before others begin what may last, and
    :class:`~callbacks.checkpoints.Checkpoints` saves at the end of the step that it stops at.
    """

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self._asked: set[int] = set()
        self._stepped = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM from Lightning, whose handler would end the run at once, with status 0, and
        SIGINT from Python, unless who started the run has it ignored."""
        numbers = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            numbers.append(signal.SIGINT)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on there is a step to finish and to save."""
        self._stepped = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when any rank was asked to, at a step of the optimiser."""
        module = run_module(pl_module)
        if not module.step_frames:
            return  # gradients accumulate
        decide = trainer.strategy.reduce_boolean_decision
        if decide(bool(self._asked), all=False):
            trainer.should_stop = True
            # A scheduler that has asked puts back what ends with the status of SIGTERM.
            preempted = decide(signal.SIGTERM in self._asked, all=False)
            self.stopped_by = signal.SIGTERM if preempted else signal.SIGINT

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again = number in self._asked or not self._stepped  # or nothing to lose
        if number == signal.SIGINT and again:
            raise KeyboardInterrupt
        if not self._stepped:
            raise SIGTERMException
        if number == signal.SIGINT and is_first():
            os.write(2, SAVING)  # the signal may have come in the middle of a print
        self._asked.add(number)
