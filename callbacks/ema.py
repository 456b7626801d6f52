"""Averages the weights over training; evaluation and rollouts then use the average."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.course.saved import Whole, state_of
from agent_scaling.training.hooks import AveragesWeights, run_module


class EMA(AveragesWeights, WeightAveraging):
    """Updates average ← decay · average + (1 − decay) · weights after each optimiser step.

    It begins with the weights after the first step. Statistics of norms are averaged as well. In
    checkpoints, ``state_dict`` is the average, so that any program that loads the policy gets it.
    The weights in training are ``current_model_state``; a resumed run restores both.

    Comes before callbacks that evaluate or save at the end of a step.

    Args:
        decay: Share of the average that a step keeps, so that it covers about 1 / (1 − decay) steps
            of any number of frames. ``None`` keeps no average.
    """

    def __init__(self, decay: float | None = None) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise InputError(f"callbacks.ema.decay={decay:g}: must be at least 0 and below 1")
        self.decay = decay
        update = partial(_update, weight=1 - (decay or 0.0))
        super().__init__(use_buffers=True, multi_avg_fn=update)

    @property
    def policy(self) -> Policy | None:
        """The policy with the averaged weights, if any."""
        if self._average_model is None:
            return None
        averaged = self._average_model.module
        assert isinstance(averaged, LightningModule)
        return run_module(averaged).policy

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """True after each step of the optimiser."""
        return self.decay is not None and step_idx is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the module.

        Raises:
            InputError: The policy will be sharded, which a copy cannot be.
        """
        if self.decay is None or stage != "fit":
            return
        if pl_module.device_mesh is not None:
            raise InputError(f"callbacks.ema.decay={self.decay:g}: not with trainer=fsdp")
        # As in Lightning, without its warning that a copy cannot be sharded.
        self._average_model = Average(pl_module, use_buffers=self._use_buffers, **self._kwargs)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the module to its device; the count of steps stays on the CPU."""
        if self._average_model is not None:
            self._average_model.module.to(pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights in training alone, because runs resume from the last checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last step that was averaged."""
        super().load_state_dict(state_of(dict[str, Whole], state_dict))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average and the weights in training."""
        if self.decay is not None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the average and the weights in training.

        Raises:
            InputError: Only one of checkpoint and run keeps an average.
        """
        if (self.decay is not None) != ("averaging_state" in checkpoint):
            has, asks = ("no", "asks for") if self.decay is not None else ("an", "does without")
            raise InputError(
                f"callbacks.ema.decay={self.decay}: the checkpoint has {has} average of the "
                f"weights, and this run {asks} one; resume with callbacks.ema.decay as it was"
            )
        if self.decay is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class Average(AveragedModel):
    """torch's average, without its waits for a GPU: the count of steps is on the CPU."""

    def update_parameters(self, model: nn.Module) -> None:
        """Copy the first weights and statistics; average all later ones."""
        assert self.multi_avg_fn is not None
        own = [*self.module.parameters(), *self.module.buffers()]
        new = [*model.parameters(), *model.buffers()]
        pairs = [(mine.detach(), theirs.detach()) for mine, theirs in zip(own, new, strict=True)]
        for dtype in {mine.dtype for mine, _ in pairs}:
            mine, theirs = zip(*(pair for pair in pairs if pair[0].dtype == dtype), strict=True)
            if self.n_averaged:
                self.multi_avg_fn(mine, theirs, self.n_averaged)
            else:
                torch._foreach_copy_(mine, theirs)
        self.n_averaged += 1


def _update(average: list[Tensor], current: list[Tensor], _count: object, weight: float) -> None:
    """Average the tensors of one type; copy whole numbers (counters, indices)."""
    if average[0].is_floating_point():
        torch._foreach_lerp_(average, current, weight)
    else:
        torch._foreach_copy_(average, current)
