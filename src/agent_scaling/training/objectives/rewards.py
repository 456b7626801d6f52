"""Turns a game's rewards into the learner's: scales, normalises by the running spread, clips."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent_scaling.runtime.errors import InputError

SMALLEST_STD = 0.01
"""Smallest divisor of normalised rewards, so that rewards that hardly vary are not blown up."""


class Rewards(nn.Module):
    """Scales, normalises and clips rewards of any shape; checkpoints save its statistics.

    Args:
        scale: Multiplies the game's rewards first.
        normalise: Divide by the standard deviation of all rewards so far, all ranks.
        clip: Largest magnitude of the result; None does not clip.

    Raises:
        InputError: ``clip`` is not positive.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(
        self, scale: float = 1.0, normalise: bool = False, clip: float | None = 1.0
    ) -> None:
        super().__init__()
        if clip is not None and not clip > 0:
            raise InputError(f"module.rewards.clip={clip}: must be positive, or null")
        self.scale, self.normalise, self.clip = scale, normalise, clip
        for name in ("count", "mean", "m2"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @property
    def std(self) -> Tensor:
        """Standard deviation of all rewards so far, float64."""
        return (self.m2 / self.count.clamp(min=1)).sqrt()

    @torch.no_grad()
    def forward(self, reward_TB: Tensor) -> Tensor:
        """Add these rewards to the statistics, and return the learner's rewards, float32."""
        scaled_TB = reward_TB.float() * self.scale
        if self.normalise:
            self._include(scaled_TB)
            scaled_TB = scaled_TB / self.std.clamp(min=SMALLEST_STD).float()
        return scaled_TB if self.clip is None else scaled_TB.clamp(-self.clip, self.clip)

    def _include(self, reward_TB: Tensor) -> None:
        """Merge these rewards into the moments (Chan, Golub & LeVeque 1979, equations 2.1)."""
        moments = self._moments(reward_TB.double())
        count, mean = moments[0], moments[1] / moments[0]
        m2 = (moments[2] - count * mean.square()).clamp(min=0)
        apart, total = mean - self.mean, self.count + count
        self.m2 += m2 + apart.square() * self.count * count / total
        self.mean += apart * count / total
        self.count += count

    def _moments(self, values: Tensor) -> Tensor:
        """Count, sum and sum of squares [3] of the values of all ranks."""
        found = torch.stack([torch.ones_like(values).sum(), values.sum(), values.square().sum()])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(found)
        return found
