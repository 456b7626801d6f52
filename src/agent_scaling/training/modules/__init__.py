"""LightningModules: how a policy learns. One file per algorithm."""
