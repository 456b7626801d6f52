"""Scaling laws: tables of runs, isoFLOP profiles, fitted laws, their choice and uncertainty."""
