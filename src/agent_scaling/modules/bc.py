"""Behavioural cloning: cross-entropy with the expert's action, state carried over windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from agent_scaling.actions import NO_ACTION
from agent_scaling.batch import Batch
from agent_scaling.evaluate import Evaluation
from agent_scaling.flops import BUDGETS, Convention, flops_per_frame
from agent_scaling.metrics import NextActionMetrics
from agent_scaling.policy import Policy, State


class BehaviouralCloning(LightningModule):
    """Truncated back-propagation through time over lanes (arXiv 2307.09423, §3).

    Each lane's state crosses from window to window without gradient, and is reset where a game
    opens. Frames without a decision (action -100) carry no loss.

    Args:
        policy: The policy to train.
        optimizer: Makes an optimiser from parameters.
    """

    counted = "forward and backward"
    """What FLOPs are counted of."""

    def __init__(
        self, policy: Policy, optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    ) -> None:
        super().__init__()
        self.policy = policy
        self.make_optimizer = optimizer
        self.frames = 0
        """Frames trained on so far, all ranks."""
        self.step_frames = 0
        """Frames of the last step, all ranks."""
        self.costs_per_frame = {name: flops_per_frame(policy, name) for name in BUDGETS}
        """Training FLOPs per frame by convention."""
        self.flops_per_frame = self.costs_per_frame["model"]
        """Training FLOPs per frame, ``model`` convention."""
        self.lane_state: State | None = None
        self.train_metrics = NextActionMetrics()

    @property
    def spent(self) -> dict[Convention, float]:
        """FLOPs spent so far, all ranks, by convention."""
        return {name: self.frames * cost for name, cost in self.costs_per_frame.items()}

    @property
    def flops(self) -> float:
        """FLOPs spent so far, all ranks, ``model`` convention."""
        return self.spent["model"]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean nats over the window's decisions."""
        if self.lane_state is None:
            self.lane_state = self.policy.initial_state(batch.lanes)
        logits_TBA, _, state = self.policy(batch, self.lane_state)
        self.lane_state = tuple(part.detach() for part in state)
        action_TB = batch.action_TB
        nats = F.cross_entropy(
            logits_TBA.flatten(0, 1).float(),
            action_TB.flatten(),
            ignore_index=NO_ACTION,
            reduction="sum",
        )
        self.train_metrics.update(logits_TBA, action_TB)
        self.step_frames = batch.steps * batch.lanes * self.trainer.world_size
        self.frames += self.step_frames
        return nats / (action_TB != NO_ACTION).sum().clamp(min=1)

    def on_validation_epoch_start(self) -> None:
        """Begin a pass over the held-out games."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self._evaluation = Evaluation(self.policy, data.val_games, self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a window (``trainer.validate``; in training, ``callbacks.held_out`` evaluates)."""
        self._evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/…``."""
        self.log_dict({f"val/{k}": v for k, v in self._evaluation.compute().items()})

    def configure_optimizers(self) -> Optimizer:
        """The optimiser over all parameters."""
        return self.make_optimizer(self.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the lanes' states of all ranks, the frames and the policy's config."""
        checkpoint["lane_state"] = self._gathered_lanes()
        checkpoint["frames"] = self.frames
        checkpoint["policy_config"] = self.policy.config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the frames, and this rank's share of the lanes' states."""
        self.frames = checkpoint["frames"]
        parts = checkpoint["lane_state"]
        if parts is None:
            return
        ranks, rank = self.trainer.world_size, self.trainer.global_rank
        self.lane_state = tuple(part.chunk(ranks, dim=1)[rank].to(self.device) for part in parts)

    def _gathered_lanes(self) -> tuple[Tensor, ...] | None:
        if self.lane_state is None or self.trainer.world_size == 1:
            return self.lane_state
        ranks: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(ranks, [part.cpu() for part in self.lane_state])
        return tuple(torch.cat(parts, dim=1) for parts in zip(*ranks, strict=True))
