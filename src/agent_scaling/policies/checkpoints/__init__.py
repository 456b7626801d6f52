"""Checkpoint files, and building policies from them."""
