"""Hydra's configs: where the parts meet. Each verb has one YAML here; groups live in the folders."""
