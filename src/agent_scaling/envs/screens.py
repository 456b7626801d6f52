"""Sizes of screens: NetHack's terminal and the Atari frame."""

ROWS, COLUMNS = 24, 80
"""Height and width of NetHack's terminal, in characters."""
SIDE = 84
"""Height and width of an Atari frame, in pixels."""
