"""Environments: one file per game family, and a pool of worker processes that play them."""
