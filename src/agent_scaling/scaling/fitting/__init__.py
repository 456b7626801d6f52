"""Fits laws to tables of runs, and forecasts from them."""
