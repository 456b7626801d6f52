"""Measures policies on held-out games."""
