"""Sizes of what games show: NetHack's terminal and inventory, the Atari frame."""

ROWS, COLUMNS = 24, 80
"""Height and width of NetHack's terminal, in characters."""
SIDE = 84
"""Height and width of an Atari frame, in pixels."""
INVENTORY_SLOTS, NO_GLYPH = 55, 5976
"""NLE's INV_SIZE, and the glyph of an empty slot."""
