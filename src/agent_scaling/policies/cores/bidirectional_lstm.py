"""A core that looks both ways, for inverse dynamics: later frames show an action's effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.cores.lstm import LSTMCore, State
from agent_scaling.policies.costs import LayerCost


class BidirectionalLSTMCore(nn.Module):
    """Two LSTMs side by side: one over the frames up to t, one from the window's end back to t.

    The first one's state crosses windows. The second one starts afresh at each window's end, so
    windows should overlap (``Batch.ahead``). It also restarts at a game's end, so no frame sees
    frames of another game.

    Args:
        input_width: Features per frame.
        width: Hidden size h of each direction; the output has both.
        layers: Stacked layers of each; the directions do not mix between layers.
    """

    causal = False
    eager = True

    def __init__(self, input_width: int, width: int = 512, layers: int = 1) -> None:
        super().__init__()
        self.width = 2 * width
        self.past = LSTMCore(input_width, width, layers)
        self.future = LSTMCore(input_width, width, layers)

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """Arguments of a core of ``width`` for a policy of ``params`` parameters."""
        return {"width": width}

    def initial_state(self, lanes: int) -> State:
        """Zeros: (h, c) of the past, each [layers, lanes, h]."""
        return self.past.initial_state(lanes)

    def forward(self, features_TBD: Tensor, batch: Batch, state: State) -> tuple[Tensor, State]:
        """[T, B, D] → [T, B, 2·h], and the past's state before the frames ahead."""
        past_TBH, state = self.past(features_TBD, batch, state)
        start = self.future.initial_state(batch.lanes)
        future_TBH, _ = self.future(features_TBD.flip(0), backwards(batch), start)
        return torch.cat([past_TBH, future_TBH.flip(0)], dim=-1), state

    def costs(self) -> list[LayerCost]:
        """Costs of both directions' layers."""
        return [
            replace(cost, name=cost.name.replace("core", f"core.{name}", 1))
            for name, part in (("past", self.past), ("future", self.future))
            for cost in part.costs()
        ]


def backwards(batch: Batch) -> Batch:
    """The batch read from its end: games open at their last frames."""
    none_1B = torch.zeros_like(batch.first_TB[:1])
    last_TB = torch.cat([batch.first_TB[1:], none_1B])
    openings = tuple(sorted(batch.steps - t for t in batch.opening_steps() if t > 0))
    return replace(batch, first_TB=last_TB.flip(0), openings=openings, ahead=0)
