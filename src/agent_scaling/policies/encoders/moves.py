"""Encodes the cursor's move since the previous frame, which is the effect of most keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.encoders.stack import FrameStack

FAR = 2
"""Longest move in rows or columns; longer moves count as this one."""


class Moves(nn.Module):
    """A vector for each way; the cursor's place in the frame before is the state.

    It is added to what the core reads: one-hot among the inputs of layers before it, a move is
    a hundredth of the features at first, and takes thousands of steps to be noticed.

    Args:
        width: Width of the vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stack = FrameStack(2, (2,), torch.uint8)
        self.table = nn.Embedding((2 * FAR + 1) ** 2, width)

    def forward(self, batch: Batch, state: Tensor) -> tuple[Tensor, Tensor]:
        """Frames and the cursor before them [1, B, 2] → [T, B, width], and the cursor after.

        A game's first frame comes from the corner.
        """
        cursor_TB2 = batch.terminal()[2]
        pair_TB22, after = self.stack(cursor_TB2, batch.first_TB, state, batch.ahead)
        before_TB2, now_TB2 = pair_TB22.long().unbind(-1)
        step_TB2 = (now_TB2 - before_TB2).clamp(-FAR, FAR) + FAR
        way_TB = (2 * FAR + 1) * step_TB2[..., 0] + step_TB2[..., 1]
        found: Tensor = self.table(way_TB)
        return found, after
