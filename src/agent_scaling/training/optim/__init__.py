"""Optimisers, schedules and muP."""
