"""Preemption: SIGTERM or Ctrl-C ends the run at the next step, with a checkpoint."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import STEP_OUTPUT

from agent_scaling.runtime.ranks import any_rank
from agent_scaling.runtime.terminal import is_first
from agent_scaling.training.hooks import StopsRuns, run_module

SAVING = b"\nCtrl-C: the run stops once this step is done and saved; again: at once\n"


class Preemption(StopsRuns):
    """On SIGTERM or Ctrl-C, finishes the step, saves on all ranks, and stops the run.

    ``stopped_by`` then holds the signal. A second Ctrl-C does not wait.

    If a signal reached one rank only, the others would wait for that rank; so the ranks agree at
    the end of each step. (Lightning's own handler calls the other ranks in the middle of whatever
    they do, and hangs: Lightning-AI/pytorch-lightning#20806.)

    Comes first, so that it handles signals before other callbacks begin long tasks;
    :class:`~callbacks.checkpoints.Checkpoints` saves at the end of the step that it stops at.
    """

    def __init__(self) -> None:
        self.stopped_by: signal.Signals | None = None
        self._asked: set[int] = set()
        self._stepped = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle SIGTERM in place of Lightning, which would end the run at once with status 0, and
        SIGINT in place of Python, unless the run was started with SIGINT ignored."""
        numbers = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            numbers.append(signal.SIGINT)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note that a step is under way, which must be finished and saved."""
        self._stepped = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Stop after an optimiser step if any rank has received a signal."""
        module = run_module(pl_module)
        if not module.step_frames:
            return  # gradients still accumulate
        if any_rank(bool(self._asked)):
            trainer.should_stop = True
            # A scheduler that sent SIGTERM requeues jobs that end with its status.
            preempted = any_rank(signal.SIGTERM in self._asked)
            self.stopped_by = signal.SIGTERM if preempted else signal.SIGINT

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the former signal handlers."""
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
            os.write(2, SAVING)  # the signal may have interrupted a print
        self._asked.add(number)
