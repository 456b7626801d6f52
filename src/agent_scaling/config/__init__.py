"""Hydra configs: composing them, checking them, and explaining what is wrong with them."""
