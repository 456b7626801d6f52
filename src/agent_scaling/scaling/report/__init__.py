"""Presents a fit: on the terminal, in figures, and as an HTML page."""
