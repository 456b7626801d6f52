"""Draws actions from logits, with noise that depends on episode and step, not on the batch.

It uses numpy: for a few thousand numbers, waking torch's threads costs more than the work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent_scaling.runtime.errors import InputError

Floats = npt.NDArray[np.floating]
METHODS = ("softmax", "argmax", "top_k", "top_p")
STEPS_AT_ONCE = 256  # uniforms per lane and refill, because making a generator costs 10 µs


@dataclass(frozen=True)
class Sampling:
    """The rule by which an action is drawn from a policy's logits.

    Raises:
        InputError: A value is out of its range.
    """

    method: str = "softmax"
    """``softmax``, ``argmax``, or ``top_k`` and ``top_p``: softmax over the likeliest actions."""
    temperature: float = 1.0
    """Divides the logits before anything else."""
    top_k: int = 10
    """Actions that ``top_k`` keeps."""
    top_p: float = 0.95
    """Probability mass that ``top_p`` keeps: the fewest most probable actions that reach it."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"sampling={self.method!r} is none of {', '.join(METHODS)}")
        if not self.temperature > 0:
            raise InputError(f"temperature={self.temperature} must be positive; or sampling=argmax")
        if self.top_k < 1:
            raise InputError(f"top_k={self.top_k} must be at least 1")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must be above 0 and at most 1")

    def probabilities(self, logits_NA: Floats) -> Floats:
        """Return float64 [N, A]: the distribution that an action is drawn from."""
        probs_NA: Floats
        scaled = logits_NA.astype(np.float64) / self.temperature
        if self.method == "argmax":
            best_N1 = scaled.argmax(axis=1)[:, None]
            probs_NA = np.zeros_like(scaled)
            np.put_along_axis(probs_NA, best_N1, 1.0, axis=1)
            return probs_NA
        probs_NA = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probs_NA /= probs_NA.sum(axis=1, keepdims=True)
        if self.method == "softmax":
            return probs_NA
        # A stable sort keeps the first of two equally probable actions.
        order_NA = np.argsort(-probs_NA, axis=1, kind="stable")
        sorted_NA = np.take_along_axis(probs_NA, order_NA, axis=1)
        if self.method == "top_k":
            sorted_NA[:, self.top_k :] = 0
        else:
            before_NA = sorted_NA.cumsum(axis=1) - sorted_NA
            sorted_NA[before_NA >= self.top_p] = 0
        np.put_along_axis(probs_NA, order_NA, sorted_NA, axis=1)
        probs_NA /= probs_NA.sum(axis=1, keepdims=True)
        return probs_NA

    def draw(self, probs_NA: Floats, uniform_N: Floats) -> npt.NDArray[np.int64]:
        """Return int64 [N]: each action whose part of the cumulative sum holds the uniform."""
        cdf_NA = probs_NA.cumsum(axis=1)
        target_N1 = uniform_N[:, None] * cdf_NA[:, -1:]
        # Actions of probability 0 have empty parts, so none of them can hold the target. Rounding
        # can carry the target to the very end, which belongs to the last action with a part.
        above_NA = (cdf_NA > target_N1) | (cdf_NA == cdf_NA[:, -1:])
        chosen: npt.NDArray[np.int64] = above_NA.argmax(axis=1)
        return chosen


def uniforms(
    sampling_seed: int, episode_seed: int, begin: int, count: int
) -> npt.NDArray[np.float64]:
    """Return an episode's uniforms in [0, 1) from step ``begin`` on, which is a multiple of 4."""
    source = np.random.Philox(key=np.array([sampling_seed, episode_seed], dtype=np.uint64))
    source.advance(begin // 4)  # each value of Philox's counter gives four numbers
    return np.random.Generator(source).random(count)


class Noise:
    """The uniforms for the next steps of each lane."""

    def __init__(self, lanes: int, sampling_seed: int) -> None:
        self.sampling_seed = sampling_seed
        self._drawn = np.empty((lanes, STEPS_AT_ONCE))

    def take(
        self,
        lanes: npt.NDArray[np.int64],
        episodes: npt.NDArray[np.int64],
        steps: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Return [N] uniforms of lanes at these steps of episodes; a lane visits steps in turn."""
        position = steps % STEPS_AT_ONCE
        for i in np.flatnonzero(position == 0):
            self._drawn[lanes[i]] = uniforms(
                self.sampling_seed, int(episodes[i]), int(steps[i]), STEPS_AT_ONCE
            )
        taken: npt.NDArray[np.float64] = self._drawn[lanes, position]
        return taken
