"""Fits laws to tables of runs, chooses among them, and forecasts."""
