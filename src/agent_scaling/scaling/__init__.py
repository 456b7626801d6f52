"""Scaling laws: tables of runs, isoFLOP profiles, laws, their choice and their uncertainty."""
