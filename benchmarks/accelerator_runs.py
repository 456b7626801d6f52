"""Runs of Lightning's Trainer for ``accelerator.py``: frames per second, and waiting for data."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from agent_scaling.data.batch import Batch
from agent_scaling.training.modules.base import PolicyModule

WARM_UP = 0.25
"""Share of a run's steps that are not measured."""


class Clock(Callback):
    """Measures the steps after ``begins``: their time, and the host's between two steps.

    Args:
        begins: Steps before.
    """

    def __init__(self, begins: int) -> None:
        self.begins = begins
        self.began = self.ended = self.between = 0.0
        self.frames = 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, index: int) -> None:
        if index > self.begins:
            self.between += time.perf_counter() - self.ended

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        if index == self.begins:
            wait(module)
            self.began = time.perf_counter()
        elif index > self.begins:
            self.frames += batch.steps * batch.lanes
        self.ended = time.perf_counter()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        wait(module)
        self.ended = time.perf_counter()


def wait(module: LightningModule) -> None:
    """Until the device has done what it was given."""
    if module.device.type == "cuda":
        torch.cuda.synchronize()


def measured_run(module: PolicyModule, batches: Any, at: Any) -> tuple[float, float]:
    """Train for ``at.run_steps``; frames per second, and the host's share between two steps."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    clock = Clock(int(at.run_steps * WARM_UP))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="gpu" if at.device == "cuda" else "cpu",
            devices=1,
            max_steps=at.run_steps,
            precision=at.autocast,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, batches)
    seconds = clock.ended - clock.began
    return clock.frames / seconds, clock.between / seconds
