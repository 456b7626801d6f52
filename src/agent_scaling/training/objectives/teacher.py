"""A frozen teacher, whose logits on the learner's own unrolls the learner stays near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.policies.inference import for_inference
from agent_scaling.policies.policy import Policy, State
from agent_scaling.runtime.errors import InputError


class Ramp:
    """A weight as a function of frames: linear between points, constant before and after them.

    Args:
        frames: The points, in frames of training, ascending.
        weights: The weight at each point.

    Raises:
        InputError: There are no points, they do not ascend, or their number is not the weights'.
    """

    def __init__(self, frames: Sequence[float], weights: Sequence[float]) -> None:
        self.frames, self.weights = list(frames), list(weights)
        ascending = all(np.diff(self.frames) > 0)
        if not self.frames or len(self.frames) != len(self.weights) or not ascending:
            raise InputError(
                f"a ramp with frames={self.frames} and weights={self.weights}: give as many "
                "weights as frames, the frames ascending"
            )

    def __call__(self, frames: int) -> float:
        """The weight after ``frames`` frames."""
        return float(np.interp(frames, self.frames, self.weights))


class Teacher:
    """A frozen policy that follows the actors' lanes from unroll to unroll.

    The teacher is not a submodule of the learner: it is neither trained nor saved. Its state is not
    saved either, because every lane opens a game after a resume.

    Args:
        policy: The policy that the learner stays near.
        cost: Weight of KL(teacher ‖ learner) in the loss, over frames.
    """

    def __init__(self, policy: Policy, cost: Ramp) -> None:
        self.policy, self.cost = policy, cost
        self._ready: Policy | None = None
        self._state: State = ()

    @torch.no_grad()
    def logits(self, unroll: Batch) -> Tensor:
        """The teacher's logits [T, B, A] for the T frames of an unroll that have an action."""
        if self._ready is None:
            self._ready = for_inference(self.policy, unroll.first_TB.device)
            self._state = self._ready.initial_state(unroll.lanes)
        seen = unroll.until(unroll.steps - 1)
        logits_TBA, _, self._state = self._ready(seen, self._state)
        answer: Tensor = logits_TBA
        return answer
