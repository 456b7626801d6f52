"""Model FLOPs utilisation: FLOPs that a run executes, as a share of what its devices could do."""

from __future__ import annotations

import torch
from lightning import Trainer

from agent_scaling.data.batch import Batch
from agent_scaling.policies.sharding import is_sharded
from agent_scaling.training.device.peaks import find_peak
from agent_scaling.training.modules.base import PolicyModule


class Utilisation:
    """Counts the FLOPs that a run's steps execute (``hardware`` convention), all ranks.

    Args:
        module: The module in training.
        peak: FLOP/s of all ranks' devices together, at their best.
    """

    def __init__(self, module: PolicyModule, peak: float) -> None:
        self.module, self.peak = module, peak
        self.executed = 0.0
        """FLOPs executed since the run began or was resumed."""

    def add(self, batch: Batch | dict[str, Batch]) -> None:
        """Count a step's windows; those of other ranks are as large."""
        self.executed += self.module.executed(batch) * self.module.trainer.world_size

    def share(self, flops: float, seconds: float) -> float:
        """The utilisation of a device that executed so many FLOPs in so many seconds."""
        return flops / seconds / self.peak


def measure(trainer: Trainer, module: PolicyModule, peak: float | None) -> Utilisation | None:
    """Begin to count; None where the peak is neither given nor known, or the policy is sharded.

    Args:
        trainer: The trainer, which knows precision and ranks.
        module: The module in training, on its device.
        peak: FLOP/s of one device; None looks the device up by its name.
    """
    one = peak or find_peak(describe_device(module), str(trainer.precision))
    if one is None or is_sharded(module.policy):
        return None
    return Utilisation(module, one * trainer.world_size)


def describe_device(module: PolicyModule) -> str:
    """Name the device: ``NVIDIA H200``, or ``cpu, 2 threads``."""
    if module.device.type == "cuda":
        return torch.cuda.get_device_name(module.device)
    threads = torch.get_num_threads()
    return f"{module.device.type}, {threads} thread{'s' * (threads > 1)}"
