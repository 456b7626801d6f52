"""The sides of what games show: of NetHack's terminal, and of an Atari frame."""

ROWS, COLUMNS = 24, 80
"""Characters of NetHack's terminal."""
SIDE = 84
"""Pixels of an Atari frame, both ways."""
