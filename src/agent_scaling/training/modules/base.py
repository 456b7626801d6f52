"""The LightningModule that all algorithms share: frames, FLOPs, optimiser, rate, clipping."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torchmetrics import MeanMetric, Metric

from agent_scaling.data.batch import Batch
from agent_scaling.data.run_data import Kind, RunData
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.policies.flops import BUDGETS, Convention, flops_per_frame
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.optimizer import OptimizerFactory
from agent_scaling.training.optim.schedules import Schedule


def compiled(backend: str) -> dict[str, Any]:
    """Arguments of ``torch.compile``: one graph for each shape, and an error where it breaks."""
    return {"backend": backend, "fullgraph": True, "dynamic": False}


class PolicyModule(LightningModule):
    """A policy with its optimiser, its schedule, and the frames and FLOPs spent on it.

    A subclass calls :meth:`count` in each ``training_step``. Where gradients are accumulated over
    several windows, their frames count when the optimiser steps. Until then ``frames`` stands
    still, and so does everything that is measured in frames or FLOPs.

    Args:
        policy: The policy to train.
        optimizer: Makes the policy's optimiser.
        schedule: The learning rate over frames or FLOPs; ``None``: constant.
    """

    takes: ClassVar[frozenset[Kind]]
    """The kinds of batches that it learns from."""

    train_metrics: Metric
    """Metrics of the windows since the last point on the record."""

    counted = "forward and backward"
    """The passes that :attr:`flops_per_frame` counts, as the terminal prints them."""

    def __init__(
        self, policy: Policy, optimizer: OptimizerFactory, schedule: Schedule | None = None
    ) -> None:
        super().__init__()
        self.policy = policy
        self.make_optimizer, self.schedule = optimizer, schedule or Schedule()
        self.frames = 0
        """Frames trained on so far, all ranks."""
        self.step_frames = 0
        """Frames of the optimiser step that the latest window completed; 0: it completed none."""
        self.skipped_frames = 0
        """Frames in damaged chunks that this rank has skipped since the last logged point."""
        self._waiting = 0  # frames whose gradients wait for the optimiser
        self.costs_per_frame = {name: flops_per_frame(policy, name) for name in BUDGETS}
        """Training FLOPs per frame by convention."""
        self.flops_per_frame = self.costs_per_frame["model"]
        """Training FLOPs per frame, ``model`` convention."""
        self._counted: dict[int, int] = {}
        self.grad_norm = MeanMetric(nan_strategy="disable")
        """The gradient's norm before clipping, over steps."""
        self.latest_norm = torch.zeros(())
        """The gradient's norm before clipping, of the latest optimiser step."""

    def check_data(self, data: RunData) -> None:
        """Refuse data that the module cannot learn from, before anything starts.

        Raises:
            InputError: The data give other kinds of batches.
        """
        if data.gives != self.takes:
            raise InputError(
                "data=actors and data=mixed: module=impala alone learns from games that the policy "
                "plays; give it, or data=shards"
            )

    @property
    def spent(self) -> dict[Convention, float]:
        """Training FLOPs spent so far, all ranks, by convention."""
        return {name: self.frames * cost for name, cost in self.costs_per_frame.items()}

    def cost_of_batches(self, steps: int, convention: Convention = "model") -> float:
        """Training FLOPs per frame of batches of ``steps``."""
        return self.costs_per_frame[convention]

    def executed(self, batch: Batch | dict[str, Batch]) -> float:
        """FLOPs that this rank's device executes for a step, ``hardware`` convention."""
        windows = [batch] if isinstance(batch, Batch) else list(batch.values())
        return sum(window.lanes * self._executed(window.steps) for window in windows)

    def _executed(self, steps: int) -> int:
        """FLOPs of a training step on one lane's window, counted once for each length."""
        if steps not in self._counted:
            self._counted[steps] = hardware_flops(self.policy, steps, lanes=1)
        return self._counted[steps]

    @property
    def flops(self) -> float:
        """Training FLOPs spent so far, all ranks, ``model`` convention."""
        return self.spent["model"]

    @property
    def parts(self) -> dict[str, float]:
        """FLOPs so far by kind of work; empty where there is only one kind."""
        return {}

    @property
    def learning_rate(self) -> float:
        """The learning rate of the latest step, before muP's factors."""
        return self.make_optimizer.lr * self.schedule(self.frames, self.spent)

    def count(self, frames: int, skipped: int = 0) -> None:
        """Add this rank's frames of one window; ``skipped`` of them are padding for lost frames."""
        self.step_frames = 0
        self.skipped_frames += skipped
        self._waiting += frames * self.trainer.world_size

    def compile_parts(self, backend: str) -> None:
        """Compile the policy's parts, each as one graph; a subclass adds its loss.

        A core that runs one kernel for a whole window stays as it is (``Core.eager``).
        """
        self.policy.get_submodule("encoder").compile(**compiled(backend))
        if not getattr(self.policy.core, "eager", False):
            self.policy.get_submodule("core").compile(**compiled(backend))

    def configure_optimizers(self) -> Optimizer:
        """Make the optimiser: fused on CUDA, except under 16-mixed precision.

        A fused step unscales float16 gradients itself, so they could not be clipped before it.
        """
        scaled = self._trainer is not None and self.trainer.precision == "16-mixed"
        return self.make_optimizer(self.policy, fused=self.device.type == "cuda" and not scaled)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Count the step's frames, and set the learning rate of its last frame."""
        self.step_frames, self._waiting = self._waiting, 0
        self.frames += self.step_frames
        fraction = self.schedule(self.frames, self.spent)
        self.make_optimizer.set_rate(optimizer, fraction)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer asks, and keep the norm before clipping, which is computed once."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        if isinstance(norm, DTensor):  # the policy is sharded
            norm = norm.full_tensor()
        self.latest_norm = norm.detach()
        self.grad_norm.update(norm)
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the frames, the schedule, the policy's config and its game."""
        checkpoint["frames"] = self.frames
        checkpoint["schedule"] = asdict(self.schedule)
        checkpoint["policy_config"] = self.policy.config
        checkpoint["game"] = self.policy.game.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of frames trained on."""
        self.frames = checkpoint["frames"]
