"""No core: each frame is answered by itself, or with the frames that the encoder stacks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.policies.costs import LayerCost


class NoCore(nn.Module):
    """Hands the encoder's features to the heads.

    Args:
        input_width: Features per frame, which are the output's too.
    """

    def __init__(self, input_width: int) -> None:
        super().__init__()
        self.width = input_width

    @staticmethod
    def sized(width: int, params: int) -> dict[str, Any]:
        """No arguments: this core has no width of its own."""
        return {}

    def initial_state(self, lanes: int) -> tuple[()]:
        """An empty state: this core remembers nothing."""
        return ()

    def forward(
        self, features_TBD: Tensor, batch: Batch, state: tuple[()]
    ) -> tuple[Tensor, tuple[()]]:
        """Return features and state unchanged."""
        return features_TBD, state

    def costs(self) -> list[LayerCost]:
        """No costs: this core computes nothing."""
        return []
