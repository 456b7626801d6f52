"""Environments: a pool of worker processes, and one file per game family."""
