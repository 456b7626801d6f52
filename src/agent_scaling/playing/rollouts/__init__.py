"""Evaluates checkpoints in games and tabulates their episodes."""
