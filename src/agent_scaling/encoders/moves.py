"""Which way the cursor has moved since the frame before: what most keys do to the hero."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from agent_scaling.batch import Batch
from agent_scaling.encoders.stack import FrameStack

FAR = 2
"""Rows or columns; farther counts as this far."""


class Moves:
    """One-hot vectors of the cursor's moves; its place in the frame before is the state."""

    features = (2 * FAR + 1) ** 2

    def __init__(self) -> None:
        self.stack = FrameStack(2, (2,), torch.uint8)

    def __call__(self, batch: Batch, state: Tensor) -> tuple[Tensor, Tensor]:
        """T·B frames and the cursor before [1, B, 2] → int64 [N, features], and the cursor after.

        A game's first frame comes from the corner.
        """
        cursor_TB2 = batch.terminal()[2]
        pair_TB22, after = self.stack(cursor_TB2, batch.first_TB, state, batch.ahead)
        before_N2, now_N2 = pair_TB22.flatten(0, 1).long().unbind(-1)
        step_N2 = (now_N2 - before_N2).clamp(-FAR, FAR) + FAR
        return F.one_hot((2 * FAR + 1) * step_N2[:, 0] + step_N2[:, 1], self.features), after
