"""Checkpoints: the last, the one before, the best, and one per milestone; RNG included."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from agent_scaling.policies.checkpoints.files import LAST, PREVIOUS
from agent_scaling.runtime.files import disk_errors, part_of
from agent_scaling.runtime.ranks import any_rank, gathered
from agent_scaling.runtime.terminal import say
from agent_scaling.training.course.saved import Number, state_of
from agent_scaling.training.course.stopping import preempted
from agent_scaling.training.hooks import (
    RunCallback,
    Stage,
    checkpoint_folder,
    crossed,
    measurements,
    milestone_name,
    run_module,
)
from agent_scaling.training.modules.base import PolicyModule


class Checkpoints(RunCallback):
    """Saves only at the end of a step, so that each file is a state between two steps.

    Args:
        every_frames: Frames between saves of ``last.ckpt``, all ranks.
        every_minutes: Minutes between saves; whichever comes first.
    """

    stage = Stage.SAVE

    def __init__(self, every_frames: int | None = None, every_minutes: float | None = 5.0) -> None:
        self.every_frames = every_frames
        self.every_minutes = every_minutes
        self.best_nats = float("inf")
        self._saved_at = time.monotonic()
        self._restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best held-out loss so far."""
        return {"best_nats": self.best_nats}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best held-out loss."""
        self.best_nats = state_of(Number, state_dict["best_nats"])

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state of every random number generator of every rank."""
        checkpoint["rng"] = gathered(rng_state())

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the generators' states until training starts, because set-up draws numbers too."""
        states, ranks = checkpoint["rng"], trainer.world_size
        self._restore = states[trainer.global_rank] if trainer.global_rank < len(states) else None
        if len(states) != ranks:
            say(
                f"the checkpoint is of {len(states)} ranks, this run has {ranks}: the same lanes "
                "go on, with their states; weights agree up to the order of sums"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Restore the generators before the first step after a resume."""
        if self._restore is not None:
            set_rng_state(self._restore)
            self._restore = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save ``last.ckpt`` between two optimiser steps, when it is due or the run stops."""
        module = run_module(pl_module)
        if not module.step_frames:
            return  # gradients still accumulate
        every = self.every_frames
        due = every is not None and crossed(module, every)
        if self.every_minutes is not None:
            due = due or time.monotonic() - self._saved_at >= 60 * self.every_minutes
        # Clocks differ, so all ranks save as soon as one rank's clock says so.
        if any_rank(due) or preempted(trainer):
            self.save_last(trainer)

    def on_milestone(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        """Save the milestone's checkpoint, the best if this is it, and the last."""
        folder = checkpoint_folder(trainer)
        nats = measurements(trainer).get("val/nats")
        if nats is not None and nats < self.best_nats:
            self.best_nats = nats
            trainer.save_checkpoint(folder / "best.ckpt")
        trainer.save_checkpoint(folder / milestone_name(flops))
        self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Save ``last.ckpt``, and keep the one that it replaces as ``previous.ckpt``."""
        folder = checkpoint_folder(trainer)
        if trainer.is_global_zero and (folder / LAST).exists():
            keep_previous(folder)
        for logger in trainer.loggers:
            flush = getattr(logger, "flush", None)
            if flush is not None:
                flush()
        trainer.save_checkpoint(folder / LAST)
        self._saved_at = time.monotonic()


def keep_previous(folder: Path) -> None:
    """Keep ``last.ckpt`` as ``previous.ckpt``, too; raise :class:`InputError` on a disk error."""
    last, previous = folder / LAST, folder / PREVIOUS
    spare = part_of(previous)
    with disk_errors(previous):
        try:
            # A link, then a rename, so that a whole last.ckpt exists at every moment.
            spare.hardlink_to(last)
        except OSError:  # no links here: resume uses the previous one until the next is whole
            last.replace(previous)
        else:
            spare.replace(previous)
            spare.unlink(missing_ok=True)  # the link remains if both names were one file already


def rng_state() -> dict[str, Any]:
    """Return the states of torch's, CUDA's, numpy's and Python's generators, as plain values."""
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    name, keys, position, has_gauss, gauss = legacy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the states that :func:`rng_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    legacy = (name, keys.numpy().astype(np.uint32), position, has_gauss, gauss)
    np.random.set_state(legacy)  # noqa: NPY002
    random.setstate(state["python"])
