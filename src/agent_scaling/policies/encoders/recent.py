"""The last few actions, as a sum of vectors that go almost straight to the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.encoders.stack import FrameStack


class RecentActions(nn.Module):
    """A vector for each action at each distance; earlier actions of the game are the state.

    Args:
        count: Actions that are seen, the latest included.
        actions: Number of actions in the action set.
        width: Width of the vectors.
    """

    places: Tensor

    def __init__(self, count: int, actions: int, width: int) -> None:
        super().__init__()
        self.stack = FrameStack(count, (), torch.uint8)
        self.table = nn.Embedding(count * actions, width)
        self.register_buffer("places", torch.arange(count) * actions, persistent=False)

    def forward(self, batch: Batch, state: Tensor) -> tuple[Tensor, Tensor]:
        """Frames and the actions before them [count − 1, B] → [T, B, width], and those after."""
        action_TB = batch.prev_action_TB.to(torch.uint8)
        seen_TBK, after = self.stack(action_TB, batch.first_TB, state, batch.ahead)
        vectors: Tensor = self.table(seen_TBK.long() + self.places)
        return vectors.sum(dim=2), after
