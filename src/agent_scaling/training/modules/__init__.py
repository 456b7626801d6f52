"""LightningModules, one file per learning algorithm."""
