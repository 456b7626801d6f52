"""Policies: encoders, cores, checkpoints, sizes and FLOPs."""
