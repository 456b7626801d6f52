"""Hydra's configs, where the parts meet: one YAML per verb, groups in the folders."""
