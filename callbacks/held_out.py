"""Held-out loss: the same frames each time, with its standard error."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from agent_scaling.evaluation.held_out import evaluate
from agent_scaling.runtime.allocator import give_back_memory
from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.logger import log_metrics
from agent_scaling.training.hooks import crossed
from callbacks.baselines import Baselines
from callbacks.ema import evaluated


class HeldOut(Callback):
    """Evaluates on the held-out games every ``every_frames`` and at each milestone.

    Args:
        every_frames: Frames between evaluations, all ranks; ``None``: at milestones only.
        margins: Also compare accuracies with those of the actions' frequencies, which
            ``callbacks.baselines`` counts.
    """

    def __init__(self, every_frames: int | None = None, margins: bool = False) -> None:
        self.every_frames, self.margins = every_frames, margins
        self.last: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse margins over what nobody counts, before anything is trained."""
        if self.margins and not any(isinstance(c, Baselines) for c in trainer.callbacks):  # type: ignore[attr-defined]
            raise InputError("callbacks.held_out.margins=true needs callbacks.baselines")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate where a multiple of ``every_frames`` was crossed."""
        if self.every_frames and crossed(pl_module, self.every_frames):
            self.on_milestone(trainer, pl_module, 0.0)

    def on_milestone(self, trainer: Trainer, pl_module: LightningModule, flops: float) -> None:
        """Evaluate and log as ``val/…``."""
        module: Any = pl_module
        mixed: Any = trainer.datamodule  # type: ignore[attr-defined]
        data = getattr(mixed, "demonstrations", mixed)
        if data.val_games == 0:
            return
        policy, windows = evaluated(trainer, module), data.val_dataloader()
        unigram_A = frequencies(trainer) if self.margins else None
        self.last = evaluate(policy, windows, data.val_games, module.device, unigram_A)
        give_back_memory()
        log_metrics(trainer, module, self.at_milestone())

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what the last evaluation found, so that the weights say how good they are."""
        checkpoint["held_out"] = dict(self.last)

    def at_milestone(self) -> dict[str, float]:
        """What the last evaluation found, for the table of milestones."""
        return {f"val/{name}": value for name, value in self.last.items()}


def frequencies(trainer: Trainer) -> Tensor | None:
    """Nats of each action in the training games; None in a run that was begun before they were
    kept."""
    return next(c.unigram_A for c in trainer.callbacks if isinstance(c, Baselines))  # type: ignore[attr-defined]
