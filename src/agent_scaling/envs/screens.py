"""Sizes of what games show: NetHack's terminal and inventory, the Atari frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROWS, COLUMNS = 24, 80
"""Height and width of NetHack's terminal, in characters."""
SIDE = 84
"""Height and width of an Atari frame, in pixels."""
INVENTORY_SLOTS, NO_GLYPH = 55, 5976
"""NLE's INV_SIZE, and the glyph of an empty slot."""


def are_glyphs(glyphs: npt.NDArray[np.int16]) -> bool:
    """Return True where all are numbers of glyphs, :data:`NO_GLYPH` included."""
    return bool(((glyphs >= 0) & (glyphs <= NO_GLYPH)).all())
