"""Stops the run at a loss that is not finite, and records the batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_json
from agent_scaling.runtime.ranks import any_rank
from agent_scaling.training.hooks import (
    RunCallback,
    Stage,
    checkpoint_folder,
    run_data,
    run_module,
    step_loss,
)
from agent_scaling.training.modules.base import PolicyModule

NAN_BATCH = "nan_batch.json"


class NonFinite(RunCallback):
    """Stops at a loss or gradient norm that is nan or infinite, before anything is saved.

    ``nan_batch.json`` beside the checkpoints names the step and, where the step determines the
    batch, the games and frames of each lane.

    On a GPU, reading a value waits for the step, so values are read only now and then; the device
    keeps the first bad step.

    Args:
        every_steps: Steps between readings on a GPU; also before milestones and checkpoints.
    """

    stage = Stage.GUARD

    def __init__(self, every_steps: int = 50) -> None:
        if every_steps < 1:
            raise InputError(f"callbacks.non_finite.every_steps={every_steps}: must be at least 1")
        self.every_steps = every_steps
        self._first_bad: Tensor | None = None  # [2] float64: the window and its loss

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Check this step; read the result where that costs nothing, or is due."""
        module = run_module(pl_module)
        loss, window = step_loss(outputs).detach().double(), window_of(trainer)
        fine = loss.isfinite()
        # With scaled gradients, infinite norms are normal: the scaler finds its scale by them.
        if module.step_frames and trainer.precision != "16-mixed":
            fine = fine & module.latest_norm.isfinite()
        if self._first_bad is None:
            self._first_bad = torch.tensor([-1.0, 0.0], dtype=torch.float64, device=loss.device)
        now = torch.stack([torch.full_like(loss, float(window)), loss])
        self._first_bad = torch.where(fine | (self._first_bad[0] >= 0), self._first_bad, now)
        if loss.device.type == "cpu" or (window + 1) % self.every_steps == 0:
            self._stop_if_bad(trainer, module)

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Check before a milestone, so that broken weights are not measured."""
        self._stop_if_bad(trainer, module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check before a checkpoint, so that broken weights are not saved."""
        self._stop_if_bad(trainer, run_module(pl_module))

    def _stop_if_bad(self, trainer: Trainer, module: PolicyModule) -> None:
        window, loss = (-1.0, 0.0) if self._first_bad is None else self._first_bad.tolist()
        if not any_rank(window >= 0):
            return
        path = checkpoint_folder(trainer) / NAN_BATCH
        where = "on another rank"
        if window >= 0:  # each rank that sees it writes the same: the lanes of all ranks
            where = f"at step {int(window)}"
            write_batch(path, trainer, int(window), loss)
        what = "the gradient" if window >= 0 and math.isfinite(loss) else "the loss"
        raise InputError(
            f"{what} is not finite {where}, see {path}: look at that batch, or go on from the "
            "checkpoint before with ckpt_path=last and a lower optimizer.lr"
        )


def window_of(trainer: Trainer) -> int:
    """Return the number of the current step's window, counted from the run's start."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    return int(progress.total.processed) - 1


def write_batch(path: Path, trainer: Trainer, window: int, loss: float) -> None:
    """Write the games and frames of a window's lanes."""
    found = {"step": window, "loss": str(loss)} | run_data(trainer).coordinates(window)
    write_json(path, found)
