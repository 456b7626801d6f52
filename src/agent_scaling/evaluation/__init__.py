"""Measures policies' predictions on held-out games."""
