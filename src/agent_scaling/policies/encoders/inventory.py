"""The glyphs of what the player carries."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from agent_scaling.envs.screens import INVENTORY_SLOTS, NO_GLYPH
from agent_scaling.policies.costs import LayerCost
from agent_scaling.policies.encoders.lines import Bag, mlp, mlp_costs

ITEMS = (
    *range(1144, 1525),
    *range(1906, 2359),
    *range(5595, 5976),
)
"""Glyphs that an item can have: corpses, objects, statues, as NLE numbers them."""


class Inventory(Bag):
    """int16 [N, 55] → [N, width]: which items are there; not in which order or number."""

    row_of: Tensor

    def __init__(self, width: int) -> None:
        # Row 0 is an empty slot, and adds nothing.
        super().__init__("inventory", len(ITEMS) + 1, width, padding_row=0)
        row_of = torch.zeros(NO_GLYPH + 1, dtype=torch.int64)
        row_of[list(ITEMS)] = torch.arange(1, len(ITEMS) + 1)
        self.register_buffer("row_of", row_of, persistent=False)

    def forward(self, glyphs_NI: Tensor) -> Tensor:
        """Sum the items' rows, then the second layer."""
        return self.summed(self.row_of[glyphs_NI.long()])


class InventorySlots(nn.Module):
    """int16 [N, 55] → [N, width]: the slots' glyphs in order, embedded side by side; then two
    layers, as in the second release of the paper's authors.

    Args:
        embedding: Width of a glyph's vector.
        width: Width of both layers.
    """

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.glyphs = nn.Embedding(NO_GLYPH + 1, embedding)  # the last is an empty slot
        joined = INVENTORY_SLOTS * embedding
        self.mlp = nn.Sequential(*mlp([joined, width], nn.ELU, norm=True), nn.Linear(width, width))

    def forward(self, glyphs_NI: Tensor) -> Tensor:
        """Embed, join, two layers; no activation behind the second."""
        return cast(Tensor, self.mlp(self.glyphs(glyphs_NI.long()).flatten(1)))

    def costs(self) -> list[LayerCost]:
        """The table is a look-up."""
        table = LayerCost("inventory.glyphs", "lookup", 0)
        return [table, *mlp_costs("inventory.mlp", self.mlp)]
