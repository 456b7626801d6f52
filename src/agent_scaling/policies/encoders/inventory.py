"""The glyphs of what the player carries."""

from __future__ import annotations

import torch
from nle import nethack
from torch import Tensor

from agent_scaling.policies.encoders.lines import Bag

ITEMS = (
    *range(nethack.GLYPH_BODY_OFF, nethack.GLYPH_BODY_OFF + nethack.NUMMONS),
    *range(nethack.GLYPH_OBJ_OFF, nethack.GLYPH_OBJ_OFF + nethack.NUM_OBJECTS),
    *range(nethack.GLYPH_STATUE_OFF, nethack.GLYPH_STATUE_OFF + nethack.NUMMONS),
)
"""Glyphs that an item can have: corpses, objects, statues."""


class Inventory(Bag):
    """int16 [N, 55] → [N, width]: which items are there; not in which order or number."""

    row_of: Tensor

    def __init__(self, width: int) -> None:
        # Row 0 is an empty slot, and adds nothing.
        super().__init__("inventory", len(ITEMS) + 1, width, padding_row=0)
        row_of = torch.zeros(nethack.MAX_GLYPH + 1, dtype=torch.int64)
        row_of[list(ITEMS)] = torch.arange(1, len(ITEMS) + 1)
        self.register_buffer("row_of", row_of, persistent=False)

    def forward(self, glyphs_NI: Tensor) -> Tensor:
        """Sum the items' rows, then the second layer."""
        return self.summed(self.row_of[glyphs_NI.long()])
