"""From logits to actions; the noise belongs to the episode and the step, not to the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agent_scaling.errors import InputError

METHODS = ("softmax", "argmax", "top_k", "top_p")
STEPS_AT_ONCE = 256  # uniforms drawn per lane and refill: a generator costs 10 µs to make


@dataclass(frozen=True)
class Sampling:
    """How an action is drawn from a policy's logits.

    Raises:
        InputError: A value is out of its range.
    """

    method: str = "softmax"
    """``softmax``; ``argmax``; ``top_k``, ``top_p``: softmax over the most probable actions."""
    temperature: float = 1.0
    """Divides the logits before anything else."""
    top_k: int = 10
    """Actions that ``top_k`` keeps."""
    top_p: float = 0.95
    """Mass that ``top_p`` keeps: the fewest most probable actions that reach it."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"sampling={self.method!r} is none of {', '.join(METHODS)}")
        if not self.temperature > 0:
            raise InputError(f"temperature={self.temperature} must be positive; or sampling=argmax")
        if self.top_k < 1:
            raise InputError(f"top_k={self.top_k} must be at least 1")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must be above 0 and at most 1")

    def probabilities(self, logits_NA: Tensor) -> Tensor:
        """Float64 [N, A]: the distribution that an action is drawn from."""
        scaled = logits_NA.double() / self.temperature
        if self.method == "argmax":
            best_N1 = scaled.argmax(dim=1, keepdim=True)
            return torch.zeros_like(scaled).scatter_(1, best_N1, 1.0)
        probs_NA = scaled.softmax(dim=1)
        if self.method == "softmax":
            return probs_NA
        # Stable: of two equally probable actions the first is kept.
        sorted_NA, order_NA = probs_NA.sort(dim=1, descending=True, stable=True)
        if self.method == "top_k":
            sorted_NA[:, self.top_k :] = 0
        else:
            before_NA = sorted_NA.cumsum(dim=1) - sorted_NA
            sorted_NA[before_NA >= self.top_p] = 0
        kept_NA = torch.zeros_like(probs_NA).scatter_(1, order_NA, sorted_NA)
        return kept_NA / kept_NA.sum(dim=1, keepdim=True)

    def draw(self, probs_NA: Tensor, uniform_N: Tensor) -> Tensor:
        """int64 [N]: the action whose part of the cumulative distribution holds the uniform."""
        cdf_NA = probs_NA.cumsum(dim=1)
        target_N1 = uniform_N.unsqueeze(1) * cdf_NA[:, -1:]
        # Actions of probability 0 have empty parts, so none of them can hold the target.
        return (cdf_NA <= target_N1).sum(dim=1).clamp(max=probs_NA.shape[1] - 1)


def uniforms(
    sampling_seed: int, episode_seed: int, begin: int, count: int
) -> npt.NDArray[np.float64]:
    """Uniforms in [0, 1) of steps ``begin``… of an episode; ``begin`` a multiple of 4."""
    source = np.random.Philox(key=np.array([sampling_seed, episode_seed], dtype=np.uint64))
    source.advance(begin // 4)  # each value of Philox's counter makes four numbers
    return np.random.Generator(source).random(count)


class Noise:
    """The uniforms that each lane's next steps use."""

    def __init__(self, lanes: int, sampling_seed: int) -> None:
        self.sampling_seed = sampling_seed
        self._drawn = np.empty((lanes, STEPS_AT_ONCE))

    def take(
        self,
        lanes: npt.NDArray[np.int64],
        episodes: npt.NDArray[np.int64],
        steps: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """[N] for lanes that are at these steps of these episodes, and visit each step in turn."""
        position = steps % STEPS_AT_ONCE
        for i in np.flatnonzero(position == 0):
            self._drawn[lanes[i]] = uniforms(
                self.sampling_seed, int(episodes[i]), int(steps[i]), STEPS_AT_ONCE
            )
        taken: npt.NDArray[np.float64] = self._drawn[lanes, position]
        return taken
