"""Held-out loss over the same frames each time, with its standard error."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from agent_scaling.evaluation.held_out import evaluate
from agent_scaling.runtime.allocator import give_back_memory
from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.logger import log_metrics
from agent_scaling.training.hooks import (
    CountsActions,
    MeasuresLoss,
    crossed,
    evaluated,
    find,
    run_data,
    run_module,
)
from agent_scaling.training.modules.base import PolicyModule


class HeldOut(MeasuresLoss):
    """Evaluates on the held-out games every ``every_frames`` and at each milestone.

    Args:
        every_frames: Frames between evaluations, all ranks; ``None`` evaluates at milestones only.
        margins: Also compare accuracies with those of a guess by the actions' frequencies, which
            ``callbacks.baselines`` counts.
    """

    def __init__(self, every_frames: int | None = None, margins: bool = False) -> None:
        self.every_frames, self.margins = every_frames, margins
        self.last: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse margins without a callback that counts actions, before training starts."""
        if self.margins and find(trainer, CountsActions) is None:
            raise InputError("callbacks.held_out.margins=true needs callbacks.baselines")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Evaluate when a multiple of ``every_frames`` is crossed."""
        module = run_module(pl_module)
        if self.every_frames and crossed(module, self.every_frames):
            self._evaluate(trainer, module)

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Evaluate and log as ``val/…``."""
        self._evaluate(trainer, module)

    def _evaluate(self, trainer: Trainer, module: PolicyModule) -> None:
        data = run_data(trainer).recorded
        if data is None or data.val_games == 0:
            return
        policy, windows = evaluated(trainer, module), data.val_dataloader()
        unigram_A = frequencies(trainer) if self.margins else None
        self.last = evaluate(policy, windows, data.val_games, module.device, unigram_A)
        give_back_memory()
        log_metrics(trainer, module, self.at_milestone())

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the last evaluation's metrics, so that the file says how good its weights are."""
        checkpoint["held_out"] = dict(self.last)

    def at_milestone(self) -> dict[str, float]:
        """Return the last evaluation's metrics."""
        return {f"val/{name}": value for name, value in self.last.items()}


def frequencies(trainer: Trainer) -> Tensor | None:
    """Return each action's nats in the training games; None if the run predates that record."""
    counted = find(trainer, CountsActions)
    return counted.unigram_A if counted else None
