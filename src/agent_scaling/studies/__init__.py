"""Scaling studies: plan a grid of runs, sweep it, fit it, and check its forecast."""
